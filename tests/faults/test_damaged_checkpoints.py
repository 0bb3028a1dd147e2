"""Damage to the newest checkpoint costs the steps since the older one; another number of ranks costs nothing."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from megatron_redone.checkpoint.distributed import LATEST
from tests.faults.training import (
    EVERY,
    NUM_STEPS,
    STAGE,
    TENSOR_PARALLEL,
    assert_equal,
    checkpoints,
    fork,
    steps,
    stop_after,
)

pytestmark = pytest.mark.distributed
SHARD = "__1_0.distcp"
"""What the second rank wrote."""


@pytest.fixture(scope="module")
def interrupted(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that SIGUSR1 stopped after three quarters, with its two newest checkpoints."""
    output = shutil.copytree(prepared, tmp_path_factory.mktemp("interrupted") / "run")
    stop_after(NUM_STEPS * 3 // 4, fork(output, TENSOR_PARALLEL), output)
    return output


def truncate(newest: Path) -> str:
    content = (newest / SHARD).read_bytes()
    (newest / SHARD).write_bytes(content[: len(content) // 2])
    return f"{newest / SHARD}: the checksum differs from its manifest"


def remove(newest: Path) -> str:
    (newest / SHARD).unlink()
    return f"{newest / SHARD}: missing"


def point_nowhere(newest: Path) -> str:
    (newest.parent / LATEST).write_text(json.dumps({"folder": "step-000099"}))
    return f"{newest.parent / 'step-000099'}: no checkpoint.json"


@pytest.mark.parametrize("damage", [truncate, remove, point_nowhere])
def test_the_next_older_checkpoint_is_taken(
    damage: Callable[[Path], str], interrupted: Path, tmp_path: Path, whole_on: Callable[[str], Path]
) -> None:
    output = shutil.copytree(interrupted, tmp_path / "run")
    older, newest = sorted(checkpoints(output).glob("step-*"))
    problem = damage(newest)
    taken = newest if damage is point_nowhere else older
    done = len(steps(output))
    training = fork(output, TENSOR_PARALLEL)
    assert training.end() == 0, training.said()
    assert problem in training.said() and "going back to the next older checkpoint" in training.said()
    assert steps(output)[done] == int(taken.name.removeprefix("step-"))
    assert_equal(output, whole_on(TENSOR_PARALLEL))


def test_nothing_is_trained_when_no_checkpoint_is_left(interrupted: Path, tmp_path: Path) -> None:
    output = shutil.copytree(interrupted, tmp_path / "run")
    for folder in checkpoints(output).glob("step-*"):
        truncate(folder)
    done = steps(output)
    training = fork(output, TENSOR_PARALLEL)
    assert training.end() == 2
    assert "CheckpointError" in training.said() and "remove its folder and write it anew" in training.said()
    assert steps(output) == done


def test_another_number_of_ranks_goes_on(run: Callable[[], Path], whole: Path) -> None:
    output = run()
    stop_after(EVERY + 2, fork(output), output)
    stop_after(EVERY + 2, fork(output, nproc=1), output)
    training = fork(output)
    assert training.end() == 0, training.said()
    assert steps(output) == list(range(NUM_STEPS))
    assert (output / STAGE / "ledger.jsonl").read_bytes() == (whole / STAGE / "ledger.jsonl").read_bytes()
    losses, expected = losses_of(output), losses_of(whole)
    assert losses == pytest.approx(expected, rel=1e-6, abs=0.0)
    assert losses[: EVERY + 2] == expected[: EVERY + 2]


def losses_of(output: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (output / STAGE / "metrics.jsonl").read_text().splitlines()]
