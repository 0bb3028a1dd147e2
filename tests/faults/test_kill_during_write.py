"""kill -9 while a checkpoint is written: what was safely written before is there, whole, every time.

The control writes as one would without care, and has to lose files: else the kills came at harmless moments.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from megatron_redone.checkpoint.config import CheckpointConfig
from megatron_redone.checkpoint.distributed import CheckpointSeries
from megatron_redone.parallel.context import ParallelContext
from tests.faults.writer import ENTRIES, state_of

ROOT = Path(__file__).resolve().parents[2]
BYTES = 4 * ENTRIES


class Writer:
    """The process that forks writers."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "tests.faults.writer"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def killed(self, kind: str, folder: Path, moment: Callable[[], bool]) -> int:
        """Starts a writer, kills it in the moment after its second step, and tells how many steps it had written."""
        assert self.process.stdin is not None
        folder.mkdir()
        self.process.stdin.write(f"{kind} {folder}\n")
        self.process.stdin.flush()
        writer = int(self.line())
        written = [int(self.line()), int(self.line())]
        while not moment():
            pass
        os.kill(writer, signal.SIGKILL)
        while (text := self.line().strip()) != "end":
            written.append(int(text))
        return written[-1]


@pytest.fixture(scope="module")
def writer() -> Iterator[Writer]:
    started = Writer()
    yield started
    assert started.process.stdin is not None and started.process.stdout is not None
    started.process.kill()
    started.process.wait()
    started.process.stdin.close()
    started.process.stdout.close()


def size_reached(folder: Path, pattern: str, wanted: int) -> Callable[[], bool]:
    """Whether a file of that name holds at least so many bytes; a file that comes and goes counts while it is there."""

    def reached() -> bool:
        try:
            return any(path.stat().st_size >= wanted for path in folder.glob(pattern))
        except FileNotFoundError:
            return False

    return reached


def moment_of(random_numbers: random.Random, folder: Path) -> Callable[[], bool]:
    """A moment in the life of a checkpoint that is being written."""
    kind = random_numbers.randrange(4)
    if kind == 0:
        return size_reached(folder, ".step-*.tmp/*.distcp", random_numbers.randrange(BYTES))
    if kind == 1:
        return size_reached(folder, ".step-*.tmp/.metadata", 0)
    if kind == 2:
        return size_reached(folder, ".step-*.tmp/checkpoint.json", 0)
    looks = iter(range(random_numbers.randrange(3000)))
    return lambda: next(looks, None) is None


def sharded(value: torch.Tensor) -> dict[str, Any]:
    from megatron.core.dist_checkpointing import ShardedTensor

    return {"weight": ShardedTensor.from_rank_offsets("weight", value)}


@pytest.mark.parametrize("kills", [10, pytest.param(150, marks=[pytest.mark.slow, pytest.mark.faults])])
def test_no_kill_loses_a_checkpoint(
    kills: int, writer: Writer, parallel_context: ParallelContext, tmp_path: Path
) -> None:
    random_numbers = random.Random(7)
    for number in range(kills):
        folder = tmp_path / str(number)
        written = writer.killed("good", folder, moment_of(random_numbers, folder))
        series = CheckpointSeries(folder, parallel_context, CheckpointConfig(on_damage="refuse"))
        state, extra = series.load(lambda: sharded(torch.zeros(ENTRIES)))
        assert extra["step"] in (written, written + 1), f"kill {number}"  # killed between the rename and the message
        assert torch.equal(state["weight"], state_of(extra["step"])), f"kill {number}"


def test_a_careless_writer_loses_files(writer: Writer, tmp_path: Path) -> None:
    lost = 0
    for number in range(10):
        folder = tmp_path / str(number)
        writer.killed("naive", folder, lambda path=folder / "latest.pt": path.stat().st_size < BYTES)  # type: ignore[misc]
        try:
            torch.load(folder / "latest.pt", weights_only=True)
        except (RuntimeError, EOFError):
            lost += 1
    assert lost > 0
