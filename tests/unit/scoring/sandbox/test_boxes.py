"""What a box lets an ordinary program do, what it says of a broken one, and that nothing outlives it."""

from __future__ import annotations

import ctypes
import json
import os
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from megatron_redone.common.errors import InputError, SandboxUnavailableError
from megatron_redone.scoring.sandbox import pool
from megatron_redone.scoring.sandbox.boxes import BoxServer
from megatron_redone.scoring.sandbox.limits import Limits
from megatron_redone.scoring.sandbox.pool import Program, Sandbox, problems_of_backend

LIMITS = Limits(wall_seconds=20.0, memory_bytes=256 << 20, output_bytes=1 << 16)
SHORT = Limits(wall_seconds=0.3, memory_bytes=256 << 20, output_bytes=1 << 16)


@pytest.fixture(scope="module", params=["bubblewrap", "landlock"])
def sandbox(request: pytest.FixtureRequest) -> Iterator[Sandbox]:
    if problems_of_backend(request.param):
        pytest.skip("; ".join(problems_of_backend(request.param)))
    with Sandbox(request.param, LIMITS, workers=2) as opened:
        yield opened


BENIGN = {
    "prints": ("print('a', 1, sep='-')", b"", (0, "a-1\n")),
    "reads standard input": ("import sys; print(sum(map(int, sys.stdin)))", b"1\n2\n", (0, "3\n")),
    "reads lines": ("print(input() + input())", b"a\nb\n", (0, "ab\n")),
    "no input": ("import sys; print(repr(sys.stdin.read()))", b"", (0, "''\n")),
    "exit code": ("import sys; print('x'); sys.exit(3)", b"", (3, "x\n")),
    "large exit code": ("raise SystemExit(256 + 5)", b"", (5, "")),
    "json and mathematics": ("import json, math; print(json.dumps([math.factorial(20)]))", b"", (0, None)),
    "files": (
        "import os\nos.makedirs('a/b')\nopen('a/b/c', 'w').write('hi')\nos.rename('a/b/c', 'd')\n"
        "print(open('d').read(), sorted(os.listdir('.')))",
        b"",
        (0, "hi ['a', 'd']\n"),
    ),
    "temporary files": ("import tempfile; f = tempfile.TemporaryFile(); print(f.write(b'x'))", b"", (0, "1\n")),
    "its own module": ("open('m.py', 'w').write('x = 7')\nimport m\nprint(m.x)", b"", (0, "7\n")),
    "64 MiB": ("x = bytearray(64 << 20); print(len(x))", b"", (0, "67108864\n")),
    "threads": (
        "import threading\nt = threading.Thread(target=print, args=('t',)); t.start(); t.join()",
        b"",
        (0, "t\n"),
    ),
    "many threads": (
        "import time\nfrom concurrent.futures import ThreadPoolExecutor\nwith ThreadPoolExecutor(100) as pool:\n"
        "    print(sum(pool.map(lambda n: time.sleep(0.02) or n, range(100))))",
        b"",
        (0, "4950\n"),
    ),
    "files without a name": (
        "import mmap, tempfile, time\nwith tempfile.TemporaryFile() as f:\n    f.write(b'x' * (1 << 20)); f.flush()\n"
        "    m = mmap.mmap(f.fileno(), 0)\ntime.sleep(0.05); print(len(m))",
        b"",
        (0, "1048576\n"),
    ),
    "devices": (
        "open('/dev/null', 'w').write('x'); print(open('/dev/zero', 'rb').read(2), "
        "len(open('/dev/urandom', 'rb').read(4)))",
        b"",
        (0, "b'\\x00\\x00' 4\n"),
    ),
    "a thread that ends last": (
        "import threading, time\nthreading.Thread(target=lambda: (time.sleep(0.01), print('late'))).start()",
        b"",
        (0, "late\n"),
    ),
    "an exit handler": ("import atexit; atexit.register(print, 'bye')", b"", (0, "bye\n")),
    "asyncio": ("import asyncio; print(asyncio.run(asyncio.sleep(0, 5)))", b"", (0, "5\n")),
    "dataclasses": (
        "from dataclasses import dataclass\n@dataclass\nclass P:\n    x: int\nprint(P(1))",
        b"",
        (0, "P(x=1)\n"),
    ),
    "main guard": ("if __name__ == '__main__': print('main')", b"", (0, "main\n")),
    "its own signal": (
        "import os, signal\nsignal.signal(signal.SIGUSR1, lambda *a: print('got'))\n"
        "os.kill(os.getpid(), signal.SIGUSR1)",
        b"",
        (0, "got\n"),
    ),
    "an alarm": (
        "import signal, time\nsignal.signal(signal.SIGALRM, lambda *a: print('ring'))\n"
        "signal.setitimer(signal.ITIMER_REAL, 0.01); time.sleep(0.05)",
        b"",
        (0, "ring\n"),
    ),
    "other characters": ("print('漢字 😂')", b"", (0, "漢字 😂\n")),
    "large input": ("import sys; print(len(sys.stdin.read()))", b"x" * (4 << 20), (0, f"{4 << 20}\n")),
    "many lines": ("for n in range(5000): print(n % 10, end='')", b"", (0, "0123456789" * 500)),
}


def test_an_ordinary_program_works(sandbox: Sandbox) -> None:
    results = sandbox.run_many([Program(source, stdin) for source, stdin, _ in BENIGN.values()])
    for name, result, (_, _, (code, out)) in zip(BENIGN, results, BENIGN.values(), strict=True):
        assert (result.exit_code, out if out is None else result.stdout) == (code, out), (name, result)
        assert result.status == ("error" if code else "ok"), name
        assert result.stderr == "", name


BROKEN: dict[str, tuple[str | bytes, str, str]] = {
    "NUL bytes": ("print(1)\0", "error", "null bytes"),
    "half characters": ("x = '\ud800'", "error", "SyntaxError"),
    "no Python": ("def f(:", "error", "SyntaxError: "),
    "bytes that are no text": (b"x = '\xff'", "error", "SyntaxError"),
    "exception": ("def f():\n    return 1 / 0\nf()", "error", "return 1 / 0"),
    "a text as exit code": ("raise SystemExit('no good')", "error", "no good"),
    "recursion": ("def f(): return f()\nf()", "error", "RecursionError"),
    "memory": ("x = bytearray(1 << 30)", "memory", "MemoryError"),
    "segmentation fault": ("import ctypes; ctypes.string_at(0)", "killed", ""),
    "abort": ("import os; os.abort()", "killed", ""),
    "kills itself": ("import os; os.kill(os.getpid(), 9)", "killed", ""),
    "too much output": ("while True: print('x' * 999)", "output_limit", ""),
    "much output at once": ("import os; os.write(1, b'x' * 60_000); os.write(2, b'x' * 60_000)", "output_limit", ""),
    "deep nesting": ("(" * 50_000, "error", "Error"),
    "forbidden": ("import socket; socket.socket()", "error", "PermissionError"),
    "closed output": ("import sys; sys.stdout.close(); sys.stderr.close()", "ok", ""),
    "descriptors closed": ("import os; os.closerange(0, 64)", "ok", ""),
}


def test_a_broken_program_has_a_stated_result(sandbox: Sandbox) -> None:
    results = sandbox.run_many([Program(source) for source, _, _ in BROKEN.values()])
    for name, result, (_, status, said) in zip(BROKEN, results, BROKEN.values(), strict=True):
        assert result.status == status, (name, result.status, result.stderr[-300:])
        assert said in result.stderr, (name, result.stderr[-300:])
        json.dumps(result.as_dict())
        assert len(result.stdout) + len(result.stderr) <= LIMITS.output_bytes
    killed = results[list(BROKEN).index("segmentation fault")]
    assert killed.exit_code == -11


def test_a_traceback_shows_the_program_alone(sandbox: Sandbox) -> None:
    result = sandbox.run(Program("def f():\n    raise KeyError('k')\nf()"))
    assert [line for line in result.stderr.splitlines() if line.startswith("  File")] == [
        '  File "program.py", line 3, in <module>',
        '  File "program.py", line 2, in f',
    ]


def test_bytes_that_are_no_text_are_shown(sandbox: Sandbox) -> None:
    result = sandbox.run(Program("import os; os.write(1, b'a\\xff\\x00b')"))
    assert (result.status, result.stdout) == ("ok", "a\\xff\0b")


def test_sizes_have_a_rule(sandbox: Sandbox) -> None:
    long_program = "x = 1\n" * 20_000 + "y = '" + "y" * 1_000_000 + "'"
    assert sandbox.run(Program(long_program)).status == "ok"
    too_long = sandbox.run(Program("#" * (LIMITS.source_bytes + 1)))
    assert (too_long.status, too_long.exit_code) == ("error", None) and "it was not run" in too_long.stderr
    assert sandbox.run(Program("", b"x" * (LIMITS.stdin_bytes + 1))).status == "error"


def test_the_next_program_finds_nothing_of_the_last_one(sandbox: Sandbox) -> None:
    first = "import builtins, math, os\nopen('left', 'w').close()\nbuiltins.left = math.left = os.environ['LEFT'] = 'x'"
    second = "import builtins, math, os\nprint(os.listdir('.'), hasattr(builtins, 'left'), hasattr(math, 'left'),"
    second += " 'LEFT' in os.environ)"
    assert [sandbox.run(Program(first)).status for _ in range(3)] == ["ok"] * 3
    assert {sandbox.run(Program(second)).stdout for _ in range(3)} == {"[] False False False\n"}


def test_equal_programs_give_equal_results(sandbox: Sandbox) -> None:
    program = Program("import random; print(random.random(), hash('x'), list({'a', 'b', 'c'}))")
    assert len({result.stdout for result in sandbox.run_many([program] * 4)}) == 1


def test_time_and_folder_have_limits(sandbox: Sandbox) -> None:
    with Sandbox(sandbox.backend, SHORT, workers=3, checked=False) as short:
        loops = ["while True: pass", "import time; time.sleep(99)", "import os; os.kill(os.getpid(), 19)"]
        results = short.run_many([Program("print('so far', flush=True)\n" + loop) for loop in loops])
    assert [(result.status, result.exit_code, result.stdout) for result in results] == [
        ("timeout", None, "so far\n")
    ] * 3
    flood = "for n in range(100_000): open(str(n), 'w').close()"
    result = sandbox.run(Program(flood))
    assert result.status in ("error", "killed") and ("No space left" in result.stderr or "limits" in result.stderr)


def test_a_named_backend_must_exist_and_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="backend 'chroot' is unknown; choose one of bubblewrap"):
        Sandbox("chroot")
    monkeypatch.setattr(pool, "problems_of_backend", lambda backend: (f"no {backend} here",))
    with pytest.raises(SandboxUnavailableError, match=r"bubblewrap: no bubblewrap here \| landlock: no landlock here"):
        Sandbox()
    with pytest.raises(SandboxUnavailableError, match="no landlock here"):
        Sandbox("landlock")


PIECES = [
    "print('x')", "raise ValueError", "x = bytearray(1 << 30)", "import os; os._exit(4)",
    "while True: print('x' * 999)", "import os; os.fork()", "open('f', 'w').write('x' * 100_000)",
    "import os; os.makedirs('a/' * 50)", "import ctypes; ctypes.string_at(0)", "import os; os.close(1)",
    "import threading, time; threading.Thread(target=time.sleep, args=(9,), daemon=True).start()",
    "import os; os.setsid()", "import time; time.sleep(9)", "import os; os.kill(1, 9); os.kill(os.getppid(), 9)",
    "import socket; a, b = socket.socketpair(); a.send(b'x')",
]  # fmt: skip
"""Of each of these, mixed runs draw."""


def mixed_runs(backend: str, count: int) -> None:
    """Runs so many programs, and finds nothing of them afterwards: no process, folder, mount, descriptor or thread."""
    ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # orphans would become children of this process
    draw = random.Random(0)
    limits = Limits(wall_seconds=0.25, memory_bytes=256 << 20, output_bytes=1 << 16)
    before = _what_is_there()
    with Sandbox(backend, limits, workers=2, checked=False) as sandbox:
        results = sandbox.run_many([Program(draw.choice(PIECES)) for _ in range(count)])
        assert len(results) == count
        assert {result.status for result in results} == {"ok", "error", "timeout", "memory", "output_limit", "killed"}
    assert _what_is_there() == before


def _what_is_there() -> dict[str, object]:
    own = Path("/proc/self")
    mine = [name for name in os.listdir(tempfile.gettempdir()) if name.startswith("redone-box-")]
    owned = [name for name in mine if os.stat(Path(tempfile.gettempdir()) / name).st_uid == os.getuid()]
    return {
        "children": sorted((own / "task" / str(os.getpid()) / "children").read_text().split()),
        "mounts": (own / "mountinfo").read_text(),
        "descriptors": len(os.listdir(own / "fd")),
        "folders": sorted(owned) if os.getuid() else [],
        "cgroup": (own / "cgroup").read_text(),
    }


@pytest.mark.parametrize("backend", ["bubblewrap", "landlock"])
def test_nothing_is_left_of_mixed_runs(backend: str) -> None:
    if problems_of_backend(backend):
        pytest.skip("; ".join(problems_of_backend(backend)))
    mixed_runs(backend, 100)


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["bubblewrap", "landlock"])
def test_nothing_is_left_of_many_mixed_runs(backend: str) -> None:
    if problems_of_backend(backend):
        pytest.skip("; ".join(problems_of_backend(backend)))
    mixed_runs(backend, 2000)


def test_a_server_that_was_ended_costs_one_more_try(sandbox: Sandbox) -> None:
    with Sandbox(sandbox.backend, LIMITS, workers=1, checked=False) as own:
        assert own.run(Program("print(1)")).stdout == "1\n"
        own._servers[0]._process.kill()
        own._servers[0]._process.wait()
        assert own.run(Program("print(2)")).stdout == "2\n"


def test_a_forked_process_does_not_end_the_sandbox_of_its_parent(sandbox: Sandbox) -> None:
    child = os.fork()
    if child == 0:
        sandbox.close()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert sandbox.run(Program("print(3)")).stdout == "3\n"


def test_an_unknown_machine_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    with pytest.raises(SandboxUnavailableError, match=r"no list of system calls for 'riscv64'; supported: x86_64"):
        BoxServer("landlock", LIMITS)
