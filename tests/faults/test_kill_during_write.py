"""kill -9 while a checkpoint is written: what was safely written before is there, whole, every time.

The control writes as one would without care, and has to lose files: else the kills came at harmless moments.
"""

from __future__ import annotations

import contextlib
import random
import shutil
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
import torch

from megatron_redone.checkpoint.config import CheckpointConfig
from megatron_redone.checkpoint.distributed import CheckpointSeries
from megatron_redone.common.errors import CheckpointError
from megatron_redone.parallel.context import ParallelContext
from tests.faults.table import FaultTable
from tests.faults.training import FORKS
from tests.faults.writer import ENTRIES, sharded, state_of, write_carelessly, write_checkpoints

KILLS = pytest.mark.parametrize("kills", [10, pytest.param(150, marks=[pytest.mark.slow, pytest.mark.faults])])
BYTES = 4 * ENTRIES
CHECKPOINT_FILES = {".step-*.tmp/*.distcp": BYTES, ".step-*.tmp/.metadata": 1, ".step-*.tmp/checkpoint.json": 1}
"""What is written before a checkpoint gets its name, by the sizes at which to kill."""


def steps_before_kill(write: Callable[[Path, Connection], None], folder: Path, moment: Callable[[], bool]) -> int:
    """Starts a writer, kills it in the moment after its second step, and tells how many steps it had written."""
    folder.mkdir()
    reported, reports = FORKS.Pipe(duplex=False)
    writer = FORKS.Process(target=write, args=(folder, reports))
    writer.start()
    reports.close()
    written = [reported.recv(), reported.recv()]
    while not moment():
        pass
    writer.kill()
    writer.join()
    with contextlib.suppress(EOFError):
        while True:
            written.append(reported.recv())
    reported.close()
    return int(written[-1])


def size_reached(folder: Path, pattern: str, wanted: int) -> Callable[[], bool]:
    """Whether a file of that name holds at least so many bytes; a file that comes and goes counts while it is there."""

    def reached() -> bool:
        try:
            return any(path.stat().st_size >= wanted for path in folder.glob(pattern))
        except FileNotFoundError:
            return False

    return reached


def moment_of(random_numbers: random.Random, folder: Path, files: dict[str, int]) -> Callable[[], bool]:
    """A moment in the life of what is being written: when one of its files has some size, or any."""
    pattern = random_numbers.choice([*files, None])
    if pattern is not None:
        return size_reached(folder, pattern, random_numbers.randrange(files[pattern]))
    looks = iter(range(random_numbers.randrange(3000)))
    return lambda: next(looks, None) is None


def newest_is_whole(folder: Path, written: int, context: ParallelContext) -> bool:
    """Whether the newest checkpoint loads with what its step wrote: the last one reported, or the one after it."""
    try:
        series = CheckpointSeries(folder, context, CheckpointConfig(on_damage="refuse"))
        state, extra = series.load(lambda: sharded(torch.zeros(ENTRIES)))
    except CheckpointError:
        return False
    step = extra["step"]  # one more than reported where the kill came between the rename and the message
    return step in (written, written + 1) and torch.equal(state["weight"], state_of(step))


@KILLS
def test_no_kill_loses_a_checkpoint(
    kills: int, parallel_context: ParallelContext, tmp_path: Path, fault_table: FaultTable
) -> None:
    random_numbers, counts, lost = random.Random(7), fault_table.of("kill -9 while one process writes a checkpoint"), []
    for number in range(kills):
        folder = tmp_path / str(number)
        written = steps_before_kill(write_checkpoints, folder, moment_of(random_numbers, folder, CHECKPOINT_FILES))
        if not newest_is_whole(folder, written, parallel_context):
            lost.append(number)
        counts.add(lost_checkpoints=number in lost)
        shutil.rmtree(folder)
    assert lost == []


@KILLS
def test_a_careless_writer_loses_files(kills: int, tmp_path: Path, fault_table: FaultTable) -> None:
    random_numbers, counts, lost = random.Random(8), fault_table.of("control: `torch.save` under the final name"), []
    for number in range(kills):
        folder = tmp_path / str(number)
        steps_before_kill(write_carelessly, folder, moment_of(random_numbers, folder, {"latest.pt": BYTES}))
        try:
            torch.load(folder / "latest.pt", weights_only=True)
        except (RuntimeError, EOFError):
            lost.append(number)
        counts.add(lost_checkpoints=number in lost)
        shutil.rmtree(folder)
    assert lost
