"""Distributed checkpoints: whole or absent, and never loaded when a bit of them has changed."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from megatron_redone.checkpoint.config import CheckpointConfig
from megatron_redone.checkpoint.distributed import (
    LATEST,
    MANIFEST,
    load_checkpoint,
    read_state,
    save_checkpoint,
    verify_checkpoint,
    write_checkpoint,
)
from megatron_redone.common.errors import CheckpointError, DiskFullError, RedoneError
from megatron_redone.parallel.context import ParallelContext


def sharded(value: Tensor) -> dict[str, Any]:
    from megatron.core.dist_checkpointing import ShardedTensor

    return {"weight": ShardedTensor.from_rank_offsets("weight", value)}


def filled(value: float) -> dict[str, Any]:
    return sharded(torch.full((3, 2), value))


def loaded_value(root: Path, context: ParallelContext) -> float:
    state, _ = load_checkpoint(root, lambda: filled(-1.0), context)
    values = set(state["weight"].flatten().tolist())
    assert len(values) == 1
    return float(values.pop())


def add_note(folder: Path) -> None:
    (folder / "beside").mkdir()
    (folder / "beside" / "note.txt").write_text("of a model")


@pytest.fixture(scope="module")
def written(parallel_context: ParallelContext, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of a checkpoint by path; each test lays down its own copy."""
    folder = tmp_path_factory.mktemp("written") / "checkpoint"
    write_checkpoint(folder, filled(1.0), {"text": "é"}, parallel_context, add_note)
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture
def checkpoint(written: dict[str, bytes], tmp_path: Path) -> Path:
    folder = tmp_path / "checkpoint"
    for name, content in written.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def test_state_and_extra_return(checkpoint: Path) -> None:
    assert verify_checkpoint(checkpoint) == {"text": "é"}
    assert read_state(checkpoint, filled(0.0))["weight"].tolist() == [[1.0, 1.0]] * 3


def test_the_manifest_names_every_file(checkpoint: Path, written: dict[str, bytes]) -> None:
    manifest = json.loads((checkpoint / MANIFEST).read_text())
    assert manifest["files"].keys() == written.keys() - {MANIFEST}
    assert {".metadata", "__0_0.distcp", "beside/note.txt"} <= manifest["files"].keys()


def test_a_changed_bit_in_any_file_is_found(checkpoint: Path, written: dict[str, bytes]) -> None:
    for name in sorted(written.keys() - {MANIFEST}):
        content = bytearray(written[name])
        content[len(content) // 2] ^= 1
        (checkpoint / name).write_bytes(content)
        with pytest.raises(CheckpointError, match=f"{name}: the checksum differs"):
            verify_checkpoint(checkpoint)
        (checkpoint / name).write_bytes(written[name])
    verify_checkpoint(checkpoint)


def test_a_missing_file_is_found(checkpoint: Path) -> None:
    (checkpoint / "__0_0.distcp").unlink()
    with pytest.raises(CheckpointError, match=r"__0_0.distcp: missing"):
        verify_checkpoint(checkpoint)


@pytest.mark.parametrize(
    ("manifest", "said"),
    [
        (None, "no checkpoint.json"),
        ("{", "not JSON"),
        ("[]", "expected a JSON object"),
        ('{"format_version": 99}', "format version 99, this library reads 2"),
    ],
)
def test_a_folder_without_a_good_manifest_is_refused(tmp_path: Path, manifest: str | None, said: str) -> None:
    if manifest is not None:
        (tmp_path / MANIFEST).write_text(manifest)
    with pytest.raises(CheckpointError, match=said):
        verify_checkpoint(tmp_path)


@pytest.mark.parametrize(
    ("keep", "kept"),
    [
        (CheckpointConfig(keep_last=1), [7]),
        (CheckpointConfig(keep_last=3), [4, 5, 7]),
        (CheckpointConfig(keep_last=2, keep_every=4), [4, 5, 7]),
    ],
)
def test_the_newest_and_every_nth_are_kept(
    parallel_context: ParallelContext, tmp_path: Path, keep: CheckpointConfig, kept: list[int]
) -> None:
    for step in (2, 3, 4, 5, 7):
        save_checkpoint(tmp_path, step, filled(float(step)), {"step": step}, parallel_context, keep)
    assert sorted(path.name for path in tmp_path.iterdir()) == [LATEST, *(f"step-{step:06d}" for step in kept)]
    assert load_checkpoint(tmp_path, lambda: filled(0.0), parallel_context)[1] == {"step": 7}


def test_steps_beyond_a_new_checkpoint_go(parallel_context: ParallelContext, tmp_path: Path) -> None:
    for step in (3, 9, 6):  # 9 was damaged, and the run went on from 3
        save_checkpoint(tmp_path, step, filled(float(step)), {}, parallel_context)
    assert sorted(path.name for path in tmp_path.iterdir()) == [LATEST, "step-000003", "step-000006"]


def damage(folder: Path) -> None:
    path = folder / "__0_0.distcp"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_a_damaged_checkpoint_is_told_and_the_next_older_one_taken(
    parallel_context: ParallelContext, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for step in (1, 2, 3):
        save_checkpoint(
            tmp_path, step, filled(float(step)), {"step": step}, parallel_context, CheckpointConfig(keep_last=3)
        )
    damage(tmp_path / "step-000003")
    (tmp_path / "step-000002" / ".metadata").unlink()
    with pytest.raises(CheckpointError, match=r"step-000003.*the checksum differs"):
        load_checkpoint(tmp_path, lambda: filled(0.0), parallel_context)
    state, extra = load_checkpoint(tmp_path, lambda: filled(0.0), parallel_context, "older")
    assert extra == {"step": 1} and set(state["weight"].flatten().tolist()) == {1.0}
    damage(tmp_path / "step-000001")
    with pytest.raises(CheckpointError, match=r"step-000001.*the checksum differs"):
        load_checkpoint(tmp_path, lambda: filled(0.0), parallel_context, "older")


def test_a_latest_that_points_nowhere_does_not_hide_the_others(
    parallel_context: ParallelContext, tmp_path: Path
) -> None:
    save_checkpoint(tmp_path, 4, filled(4.0), {"step": 4}, parallel_context)
    (tmp_path / LATEST).write_text(json.dumps({"folder": "step-000009"}))
    with pytest.raises(CheckpointError, match=r"step-000009: no checkpoint\.json"):
        load_checkpoint(tmp_path, lambda: filled(0.0), parallel_context)
    assert load_checkpoint(tmp_path, lambda: filled(0.0), parallel_context, "older")[1] == {"step": 4}


def test_a_step_can_be_written_again(parallel_context: ParallelContext, tmp_path: Path) -> None:
    for value in (1.0, 5.0):
        save_checkpoint(tmp_path, 1, filled(value), {}, parallel_context)
    assert loaded_value(tmp_path, parallel_context) == 5.0


def failing_ranks(message: str) -> BaseException:
    from torch.distributed.checkpoint.api import CheckpointException

    return CheckpointException("write", {0: (RuntimeError(message), None)})  # type: ignore[dict-item]


@pytest.mark.parametrize(
    ("failure", "error", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), DiskFullError, "the disk is full"),
        (failing_ranks("Worker failure: [Errno 28] No space left on device"), DiskFullError, "the disk is full"),
        (failing_ranks("Worker failure: unexpected pos 64 vs 0"), DiskFullError, "the disk is full"),
        (RuntimeError("basic_ios::clear: iostream error"), DiskFullError, "the disk is full"),
        (failing_ranks("Worker failure: it rains"), RedoneError, "rank 0: Worker failure: it rains"),
        (KeyboardInterrupt("now"), KeyboardInterrupt, "now"),
    ],
)
def test_a_failed_write_leaves_the_older_checkpoint(
    parallel_context: ParallelContext,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    failure: BaseException,
    error: type[BaseException],
    said: str,
) -> None:
    from megatron.core import dist_checkpointing

    def fail(state: object, folder: str, **_: object) -> None:
        (Path(folder) / "part").write_text("half")
        raise failure

    save_checkpoint(tmp_path, 1, filled(1.0), {}, parallel_context)
    with monkeypatch.context() as patched:
        patched.setattr(dist_checkpointing, "save", fail)
        with pytest.raises(error, match=said):
            save_checkpoint(tmp_path, 2, filled(2.0), {}, parallel_context)
    assert sorted(path.name for path in tmp_path.iterdir()) == [LATEST, "step-000001"]
    assert loaded_value(tmp_path, parallel_context) == 1.0


def test_a_failure_beside_the_weights_leaves_nothing(parallel_context: ParallelContext, tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(DiskFullError):
        write_checkpoint(tmp_path / "new", filled(1.0), {}, parallel_context, fail)
    assert list(tmp_path.iterdir()) == []


def test_no_process_is_forked_to_write(
    parallel_context: ParallelContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A forked writer whose rank is killed waits for ever, and a fork of a process with threads may deadlock."""

    def refused(*arguments: object) -> int:
        raise AssertionError("a process was forked")

    monkeypatch.setattr("os.fork", refused)
    write_checkpoint(tmp_path / "checkpoint", filled(2.0), {}, parallel_context)
    verify_checkpoint(tmp_path / "checkpoint")


def test_a_full_disk_is_met_while_a_file_is_written(
    parallel_context: ParallelContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched, pytest.raises(DiskFullError, match="the disk is full"):
        patched.setattr("os.fsync", full)
        write_checkpoint(tmp_path / "new", filled(1.0), {}, parallel_context)
    assert list(tmp_path.iterdir()) == []
