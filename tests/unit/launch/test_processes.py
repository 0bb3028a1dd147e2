"""Real processes. A FIFO tells when ranks are ready (a line) and when all are gone (its end of file)."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import pytest

from megatron_redone.common.errors import InputError
from megatron_redone.launch.environment import from_environ
from megatron_redone.launch.processes import free_port, rank_environment, redone_command, run_on_host

ROOT = Path(__file__).resolve().parents[3]
SECONDS = 60  # until a hanging test fails; nothing here takes a second

# Ranks say "ready" on the FIFO, hold it open, and wait for a signal.
WAITING_RANK = """
import os, signal, sys
fifo = open(sys.argv[1], "w")

def stop(number, frame):
    print("stopped", number, flush=True)
    sys.exit({"stop": 130, "stop75": 75}[sys.argv[2]])

if sys.argv[2].startswith("stop"):
    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)
if sys.argv[2] == "deaf":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if sys.argv[2] == "child" and os.fork() == 0:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
fifo.write("ready\\n")
fifo.flush()
while True:
    signal.pause()
"""
LAUNCHER = """
import os, sys
from megatron_redone.launch.processes import run_on_host
sys.exit(run_on_host([sys.executable, "-c", *sys.argv[2:]], int(sys.argv[1]), os.environ, grace_seconds=0.2))
"""

# Starts one rank, as torchrun does: without asking the kernel to end it. The rank answers SIGUSR1.
TORCHRUN = """
import signal, subprocess, sys
subprocess.Popen([sys.executable, "-c", *sys.argv[1:]])
signal.pause()
"""
TORCHRUN_RANK = """
import os, signal, sys
from megatron_redone.launch.processes import end_with_launcher
end_with_launcher(os.environ)
fifo = open(sys.argv[1], "w")
signal.signal(signal.SIGUSR1, lambda number, frame: print("alive", file=fifo, flush=True))
print(os.getpid(), file=fifo, flush=True)
while True:
    signal.pause()
"""


def python(code: str, *arguments: str) -> list[str]:
    return [sys.executable, "-c", code, *arguments]


class Launcher:
    """`run_on_host` with two waiting ranks in a process of its own."""

    def __init__(self, fifo: Path, mode: str) -> None:
        os.mkfifo(fifo)
        command = python(LAUNCHER, "2", WAITING_RANK, str(fifo), mode)
        self.process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.ready: IO[str] = fifo.open(encoding="utf-8")  # blocks until the first rank opens it
        for _ in range(2):
            assert self.ready.readline() == "ready\n"

    def end(self) -> tuple[int, str, str]:
        output, errors = self.process.communicate(timeout=SECONDS)
        return self.process.returncode, output, errors

    def all_ranks_are_gone(self) -> bool:
        return self.ready.read().replace("ready\n", "") == ""  # returns when its last holder has ended


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Callable[[str], Launcher]]:
    """Starts a launcher; afterwards nothing of it is left, whatever the test found."""

    def fail(number: int, frame: object) -> None:
        raise TimeoutError(f"no answer for {SECONDS} s")

    started: list[Launcher] = []

    def start(mode: str) -> Launcher:
        started.append(Launcher(tmp_path / "fifo", mode))
        return started[-1]

    before = signal.signal(signal.SIGALRM, fail)
    signal.alarm(SECONDS)  # reading a FIFO has no time limit of its own
    yield start
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)
    for launcher in started:
        launcher.process.kill()
        launcher.process.communicate()
        launcher.ready.close()


def test_ranks_know_their_place(tmp_path: Path) -> None:
    code = "import json, os, sys; json.dump(dict(os.environ), open(sys.argv[1] + os.environ['RANK'], 'w'))"
    assert run_on_host(python(code, f"{tmp_path}/"), 3, {"HOME": "h", "OMP_NUM_THREADS": "1"}) == 0
    places = [from_environ(json.loads((tmp_path / str(rank)).read_text())) for rank in range(3)]
    assert [(p.rank, p.local_rank, p.world_size, p.local_world_size) for p in places] == [
        (0, 0, 3, 3),
        (1, 1, 3, 3),
        (2, 2, 3, 3),
    ]
    assert {(p.master_addr, p.threads) for p in places} == {("127.0.0.1", 1)}
    assert len({p.master_port for p in places}) == 1


def test_only_rank_0_is_heard(capfd: pytest.CaptureFixture[str]) -> None:
    code = "import os, sys; print('out', os.environ['RANK']); print('err', os.environ['RANK'], file=sys.stderr)"
    assert run_on_host(python(code), 2, os.environ) == 0
    assert capfd.readouterr() == ("out 0\n", "err 0\n")


def test_a_failing_rank_ends_the_others_and_is_quoted(capfd: pytest.CaptureFixture[str]) -> None:
    code = """
import os, signal, sys
if os.environ["RANK"] == "1":
    print("the cause", file=sys.stderr)
    sys.exit(3)
while True:
    signal.pause()
"""
    assert run_on_host(python(code), 3, os.environ) == 3
    expected = "rank 1 of 3 failed with exit code 3; the end of its output:\n  [rank 1] the cause\n"
    assert capfd.readouterr().err == expected


def test_a_rank_0_that_was_killed_is_told(capfd: pytest.CaptureFixture[str]) -> None:
    program = "import os, signal\nif os.environ['RANK'] == '0': os.kill(os.getpid(), signal.SIGKILL)"
    assert run_on_host(python(program), 2, os.environ) == 128 + signal.SIGKILL
    assert capfd.readouterr().err == "rank 0 of 2 was ended by SIGKILL\n"


@pytest.mark.parametrize(
    ("statement", "code", "said"),
    [
        ("os.kill(os.getpid(), signal.SIGKILL)", 137, "rank 1 of 2 was ended by SIGKILL"),
        ("sys.exit(255)", 255, "rank 1 of 2 failed with exit code 255"),
        ("sys.exit(2)", 2, "rank 1 of 2 failed with exit code 2"),
    ],
)
def test_exit_code_is_that_of_the_rank(capfd: pytest.CaptureFixture[str], statement: str, code: int, said: str) -> None:
    program = f"import os, signal, sys\nif os.environ['RANK'] == '1': {statement}"
    assert run_on_host(python(program), 2, os.environ) == code
    assert said in capfd.readouterr().err


def test_bad_input_of_every_rank_is_told_once(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    code = """
import os, signal, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
open(sys.argv[1], "r" if os.environ["RANK"] == "0" else "w").close()  # both are here when this returns
print("no such file", file=sys.stderr)
sys.exit(2)
"""
    os.mkfifo(tmp_path / "fifo")
    assert run_on_host(python(code, str(tmp_path / "fifo")), 2, os.environ) == 2
    assert capfd.readouterr().err == "no such file\n"


def test_a_rank_that_ends_well_leaves_the_others_running(tmp_path: Path) -> None:
    code = """
import os, sys
if os.environ["RANK"] == "0":
    print(open(sys.argv[1]).read())
else:
    open(sys.argv[1], "w").close()
"""
    os.mkfifo(tmp_path / "fifo")
    assert run_on_host(python(code, str(tmp_path / "fifo")), 2, os.environ) == 0


@pytest.mark.parametrize(("mode", "code"), [("stop", 130), ("stop75", 75)])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_go_on_to_every_rank(launch: Callable[[str], Launcher], number: int, mode: str, code: int) -> None:
    launcher = launch(mode)
    launcher.process.send_signal(number)
    assert launcher.end() == (code, f"stopped {int(number)}\n", "")
    assert launcher.all_ranks_are_gone()


def test_a_second_signal_ends_ranks_that_do_not_listen(launch: Callable[[str], Launcher]) -> None:
    launcher = launch("deaf")
    launcher.process.send_signal(signal.SIGINT)
    launcher.process.send_signal(signal.SIGTERM)
    assert launcher.end()[0] == 128 + signal.SIGKILL
    assert launcher.all_ranks_are_gone()


def test_what_a_rank_started_ends_with_it(launch: Callable[[str], Launcher]) -> None:
    launcher = launch("child")  # a deaf child of each rank holds the FIFO too
    launcher.process.send_signal(signal.SIGTERM)
    assert launcher.end()[0] == 128 + signal.SIGTERM
    assert launcher.all_ranks_are_gone()


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel ends orphans on Linux only")
def test_ranks_die_with_a_killed_launcher(launch: Callable[[str], Launcher]) -> None:
    launcher = launch("deaf")
    launcher.process.kill()
    assert launcher.end()[0] == -signal.SIGKILL
    assert launcher.all_ranks_are_gone()


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel ends orphans on Linux only")
@pytest.mark.parametrize(("started_by_torchrun", "answer"), [(True, ""), (False, "alive\n")])
def test_ranks_die_with_a_killed_torchrun(tmp_path: Path, started_by_torchrun: bool, answer: str) -> None:
    os.mkfifo(tmp_path / "fifo")
    environ = {name: value for name, value in os.environ.items() if not name.startswith("TORCHELASTIC_")}
    environ |= {"RANK": "0"} | ({"TORCHELASTIC_RUN_ID": "run"} if started_by_torchrun else {})
    launcher = subprocess.Popen(python(TORCHRUN, TORCHRUN_RANK, str(tmp_path / "fifo")), cwd=ROOT, env=environ)
    with (tmp_path / "fifo").open(encoding="utf-8") as fifo:
        rank = int(fifo.readline())
        launcher.kill()
        launcher.wait(SECONDS)
        with contextlib.suppress(ProcessLookupError):
            os.kill(rank, signal.SIGUSR1)
        assert fifo.readline() == answer  # at once empty where nobody is left to write
        with contextlib.suppress(ProcessLookupError):
            os.kill(rank, signal.SIGKILL)


def test_a_program_that_cannot_start_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        run_on_host([str(tmp_path / "none")], 2, os.environ)


def test_nproc_must_be_positive() -> None:
    with pytest.raises(InputError, match="--nproc 0: must be at least 1"):
        run_on_host(redone_command(["run"]), 0, os.environ)


def test_signal_handlers_are_put_back() -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    run_on_host(python(""), 1, os.environ)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_rank_environment_overrides_an_outer_one() -> None:
    environ = rank_environment({"RANK": "7", "WORLD_SIZE": "8", "HOME": "h"}, rank=1, nproc=2, port=1234)
    assert (environ["RANK"], environ["WORLD_SIZE"], environ["MASTER_PORT"], environ["HOME"]) == (
        "1",
        "2",
        "1234",
        "h",
    )


def test_ranks_below_one_process_of_torchrun_serve_their_own_store() -> None:
    outer = {"TORCHELASTIC_USE_AGENT_STORE": "True", "TORCHELASTIC_RESTART_COUNT": "1", "TORCHELASTIC_RUN_ID": "r"}
    place = from_environ(rank_environment(outer, rank=0, nproc=2, port=1234))
    assert not place.store_is_served and place.restart_count == 0


def test_free_port_can_be_bound() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", free_port()))
