"""Starts the training of `recipe.yaml` on two ranks in several ways, watches its steps, and tells what a fault cost."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any, Protocol

import psutil

from megatron_redone.checkpoint.distributed import LATEST
from megatron_redone.checkpoint.manifest import verify_checkpoint
from megatron_redone.common.errors import CheckpointError
from megatron_redone.launch.processes import free_port, rank_environment, redone_command
from tests.faults.table import Counts

ROOT = Path(__file__).resolve().parents[2]
RECIPE = Path(__file__).with_name("recipe.yaml")
STAGE = "pretrain"
NUM_STEPS, EVERY = 30, 5
"""Steps of the training, and between two checkpoints, as the recipe says."""
REPLICAS, TENSOR_PARALLEL = "parallel.tp=1", "parallel.tp=2"
"""Layouts of two ranks: by default, the first writes a checkpoint alone; tensor-parallel ranks write a part each."""
SECONDS = 300
"""Until a test that waits for a process gives up; nothing here takes a tenth of it on a quiet machine."""

FORKS = multiprocessing.get_context("forkserver")
"""Processes forked from one that has imported what takes seconds."""
FORKS.set_forkserver_preload(["pytest", "tests.faults.trainer", "tests.faults.writer"])


class Training(Protocol):
    """A training that was started."""

    def ranks(self) -> list[psutil.Process]:
        """Its ranks in order."""

    def signalled(self) -> list[psutil.Process]:
        """Whom a batch system signals: the launcher, or the ranks where there is none."""

    def running(self) -> bool:
        """Whether a process of it is alive; one of forked ranks that ends ends the others."""

    def end(self) -> int:
        """Waits until it, and all its ranks, have ended; the exit code."""

    def kill(self) -> None:
        """Kills all of it."""

    def said(self) -> str:
        """What a user would read on the terminal, in one line."""


class Start(Protocol):
    """A way to start the training in a run folder, with settings of `redone run`."""

    def __call__(self, output: Path, *settings: str) -> Training: ...


started: list[Training] = []
"""By the test that runs; what is left of them is killed at its end."""


class Forked:
    """Ranks without a launcher, each forked from a process that has imported everything (`trainer.py`)."""

    def __init__(self, output: Path, settings: Sequence[str], nproc: int, mounts_of: int | None) -> None:
        from tests.faults.trainer import run_rank

        self.log = output.with_suffix(".log")
        port = free_port()
        self.processes: list[Any] = []
        for rank in range(nproc):
            environ = rank_environment({**os.environ, "COLUMNS": "1000"}, rank, nproc, port)  # messages stay whole
            log = self.log if rank == 0 else self.log.with_suffix(f".{rank}.log")
            arguments = (environ, run_arguments(output, settings), log, mounts_of)
            self.processes.append(FORKS.Process(target=run_rank, args=arguments))
            self.processes[-1].start()
        started.append(self)

    def ranks(self) -> list[psutil.Process]:
        return [psutil.Process(process.pid) for process in self.processes]

    signalled = ranks

    def running(self) -> bool:
        return all(process.is_alive() for process in self.processes)

    def end(self) -> int:
        give_up = time.monotonic() + SECONDS
        for process in self.processes:
            process.join(max(0.0, give_up - time.monotonic()))
        codes = [process.exitcode for process in self.processes]
        assert None not in codes, f"a rank lives on: {codes}; {self.said()}"
        return next((code for code in codes if code), 0)

    def kill(self) -> None:
        for process in self.processes:
            process.kill()
            process.join()

    def said(self) -> str:
        return " ".join(self.log.read_text().split())


class Launched:
    """Ranks below a launcher, as a user starts them."""

    def __init__(self, output: Path, command: Sequence[str]) -> None:
        self.log = output.with_suffix(".log")
        with self.log.open("a") as log:
            self.process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log, start_new_session=True)
        self.seen: set[psutil.Process] = set()
        started.append(self)

    def ranks(self) -> list[psutil.Process]:
        by_rank = {}
        for child in psutil.Process(self.process.pid).children():
            with contextlib.suppress(psutil.Error):  # it may end while we look
                by_rank[child.environ().get("RANK")] = child
        by_rank.pop(None, None)
        self.seen |= set(by_rank.values())
        return [by_rank[rank] for rank in sorted(by_rank)]

    def signalled(self) -> list[psutil.Process]:
        return [psutil.Process(self.process.pid)]

    def running(self) -> bool:
        return self.process.poll() is None or any(alive(rank) for rank in self.seen)

    def end(self) -> int:
        code = self.process.wait(SECONDS)
        wait_until_gone(self.seen)
        return code

    def kill(self) -> None:
        if self.process.poll() is None:
            self.ranks()
        self.process.kill()
        self.process.wait()
        for rank in self.seen:
            if alive(rank):
                rank.kill()

    def said(self) -> str:
        return " ".join(self.log.read_text().split())


def run_arguments(output: Path, settings: Sequence[str] = ()) -> list[str]:
    """Arguments of `redone` for a run in this folder."""
    return ["run", str(RECIPE), f"output={output}", *settings]


def fork(output: Path, *settings: str, nproc: int = 2, mounts_of: int | None = None) -> Forked:
    """Starts ranks without a launcher, in less than a second.

    Args:
        mounts_of: a process whose file systems the ranks are to see, instead of ours.
    """
    return Forked(output, settings, nproc, mounts_of)


def launch(output: Path, *settings: str) -> Launched:
    """`redone run --nproc 2`."""
    return Launched(output, redone_command([*run_arguments(output, settings), "--nproc", "2"]))


def torchrun(output: Path, *settings: str, options: Sequence[str] = (), without: Sequence[str] = ()) -> Launched:
    """`torchrun OPTIONS redone run` with two ranks.

    Args:
        without: variables that the ranks are not to see.
    """
    unset = [part for name in without for part in ("-u", name)]
    command = [sys.executable, "-W", "ignore", "-m", "torch.distributed.run", "--nproc-per-node", "2", *options]
    rank_command = ["env", *unset, *redone_command(run_arguments(output, settings))]
    return Launched(output, [*command, "--no-python", *rank_command])


def steps(output: Path) -> list[int]:
    """The steps that were finished in this run folder, by all starts together, in order; repeated ones repeat."""
    for folder in (output / ".work" / STAGE, output / STAGE):
        with contextlib.suppress(FileNotFoundError):
            lines = (folder / "timing.jsonl").read_text().split("\n")[:-1]
            return [json.loads(line)["step"] for line in lines]
    return []


def wait_until(condition: Callable[[], bool], training: Training) -> None:
    """Looks until the condition holds; fails when the training ends before it or nothing happens."""
    give_up = time.monotonic() + SECONDS
    while True:
        running = training.running()
        if condition():
            return
        assert running, training.said()
        assert time.monotonic() < give_up, f"nothing happened; {training.said()}"
        time.sleep(0.002)


def alive(process: psutil.Process) -> bool:
    """Whether any thread of a process is left; a zombie without threads waits for its parent only."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return bool(process.is_running() and (process.status() != psutil.STATUS_ZOMBIE or process.num_threads() > 1))
    return False


def wait_until_gone(processes: Collection[psutil.Process], seconds: float = SECONDS) -> None:
    """Looks until all of these have ended."""
    give_up = time.monotonic() + seconds
    while left := [process for process in processes if alive(process)]:
        assert time.monotonic() < give_up, f"processes live on: {left}"
        time.sleep(0.002)


def more_steps(output: Path, num_steps: int) -> Callable[[], bool]:
    """Whether so many steps were finished from now on."""
    enough = len(steps(output)) + num_steps
    return lambda: len(steps(output)) >= enough


def stop_after(num_steps: int, training: Training, output: Path) -> None:
    """Stops a training that was just started after so many steps, or a little later: its ranks have to agree."""
    wait_until(more_steps(output, num_steps), training)
    for rank in training.ranks():
        rank.send_signal(signal.SIGUSR1)
    assert training.end() == 75, training.said()


def random_moment(
    random_numbers: Random, output: Path, first: int = 1, last: int = NUM_STEPS * 3 // 4
) -> Callable[[], bool]:
    """A moment after one of these steps: in the next one, or while a checkpoint is written."""
    in_a_step = random_numbers.randrange(first, last)
    at_a_checkpoint = random_numbers.randrange(-(-first // EVERY) * EVERY, last, EVERY)
    num_steps, looks = random_numbers.choice([in_a_step, at_a_checkpoint]), iter(range(random_numbers.randrange(50)))
    return lambda: steps(output)[-1:] >= [num_steps - 1] and next(looks, None) is None


def checkpoints(output: Path) -> Path:
    """Folder of the checkpoints while the training is not done."""
    return output / ".work" / STAGE / "checkpoints"


def unloadable(output: Path) -> Iterator[str]:
    """What is wrong with a checkpoint that has its final name, or with what `latest.json` says."""
    root = checkpoints(output)
    if (root / LATEST).is_file() and not (root / json.loads((root / LATEST).read_text())["folder"]).is_dir():
        yield f"{root / LATEST} points nowhere"
    for folder in root.glob("step-*"):
        try:
            verify_checkpoint(folder)
        except CheckpointError as error:
            yield str(error)


def go_on(output: Path, start: Start, counts: Counts, *settings: str) -> int:
    """Starts the interrupted training again and waits for its end.

    Returns how many steps had been finished and were done again. `counts` takes the number, and the seconds from the
    start until the first new step was done, if it was started as a user starts it.
    """
    before, broken = steps(output), list(unloadable(output))
    began = time.monotonic()
    training = start(output, *settings)
    wait_until(more_steps(output, 1), training)
    seconds = time.monotonic() - began if isinstance(training, Launched) else None
    code = training.end()
    assert code == 0, training.said()
    lost_steps = before[-1] + 1 - steps(output)[len(before)]
    counts.add(lost_steps=lost_steps, seconds=seconds, lost_checkpoints=len(broken))
    assert broken == []
    assert 0 <= lost_steps <= 2 * EVERY  # a checkpoint stands when the next one begins, at the latest
    return lost_steps


def assert_equal(output: Path, whole: Path) -> None:
    """The finished training has the losses, the ledger and the weights of the one that nothing interrupted."""
    assert steps(output)[-1] == NUM_STEPS - 1
    for name in ("metrics.jsonl", "ledger.jsonl", "training.json", "model/model.safetensors"):
        assert (output / STAGE / name).read_bytes() == (whole / STAGE / name).read_bytes(), name
    assert [name for name in os.listdir(output / ".work") if not name.endswith(".lock")] == []
