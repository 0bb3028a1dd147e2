"""Distributed checkpoints: whole or absent, and never loaded when a bit of them has changed."""

from __future__ import annotations

import errno
import json
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from megatron_redone.checkpoint import write
from megatron_redone.checkpoint.config import CheckpointConfig
from megatron_redone.checkpoint.distributed import LATEST, CheckpointSeries, read_state
from megatron_redone.checkpoint.manifest import MANIFEST, verify_checkpoint
from megatron_redone.checkpoint.write import write_checkpoint
from megatron_redone.common.errors import CheckpointError, DiskFullError, RedoneError
from megatron_redone.parallel.context import ParallelContext


def sharded(value: Tensor) -> dict[str, Any]:
    from megatron.core.dist_checkpointing import ShardedTensor

    return {"weight": ShardedTensor.from_rank_offsets("weight", value)}


def filled(value: float) -> dict[str, Any]:
    return sharded(torch.full((3, 2), value))


def loaded(series: CheckpointSeries) -> tuple[float, dict[str, Any]]:
    """The value that all entries have, and what was kept beside them."""
    state, extra = series.load(lambda: filled(-1.0))
    values = set(state["weight"].flatten().tolist())
    assert len(values) == 1
    return float(values.pop()), extra


SERIES_SETTINGS = CheckpointConfig(keep_last=3, on_damage="refuse")


@pytest.fixture
def series(parallel_context: ParallelContext, tmp_path: Path) -> CheckpointSeries:
    return CheckpointSeries(tmp_path, parallel_context, SERIES_SETTINGS)


@pytest.fixture
def lenient(parallel_context: ParallelContext, tmp_path: Path) -> CheckpointSeries:
    """The same checkpoints, read by a run that goes back to an older one."""
    return CheckpointSeries(tmp_path, parallel_context, CheckpointConfig(on_damage="older"))


def save(series: CheckpointSeries, *steps: int) -> None:
    for step in steps:
        series.save(step, filled(float(step)), {"step": step})
    series.finish()


def add_note(folder: Path) -> None:
    (folder / "beside").mkdir()
    (folder / "beside" / "note.txt").write_text("of a model")


@pytest.fixture(scope="module")
def written(parallel_context: ParallelContext, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of a checkpoint by path; each test lays down its own copy."""
    folder = tmp_path_factory.mktemp("written") / "checkpoint"
    write_checkpoint(folder, filled(1.0), {"text": "é"}, parallel_context, add_files=add_note)
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
        ('{"format_version": 99}', "format version 99, this library reads 3"),
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
    series = CheckpointSeries(tmp_path, parallel_context, keep)
    save(series, 2, 3, 4, 5, 7)
    assert sorted(path.name for path in tmp_path.iterdir()) == [LATEST, *(f"step-{step:06d}" for step in kept)]
    assert loaded(series) == (7.0, {"step": 7})


def test_steps_beyond_a_new_checkpoint_go(series: CheckpointSeries, tmp_path: Path) -> None:
    save(series, 3, 9, 6)  # 9 was damaged, and the run went on from 3
    assert sorted(path.name for path in tmp_path.iterdir()) == [LATEST, "step-000003", "step-000006"]


def damage(folder: Path) -> None:
    path = folder / "__0_0.distcp"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_a_damaged_checkpoint_is_told_and_the_next_older_one_taken(
    series: CheckpointSeries, lenient: CheckpointSeries, tmp_path: Path
) -> None:
    save(series, 1, 2, 3)
    damage(tmp_path / "step-000003")
    (tmp_path / "step-000002" / ".metadata").unlink()
    with pytest.raises(CheckpointError, match=r"step-000003.*the checksum differs"):
        loaded(series)
    assert loaded(lenient) == (1.0, {"step": 1})
    damage(tmp_path / "step-000001")
    with pytest.raises(CheckpointError, match=r"step-000001.*the checksum differs"):
        loaded(lenient)


def test_a_latest_that_points_nowhere_does_not_hide_the_others(
    series: CheckpointSeries, lenient: CheckpointSeries, tmp_path: Path
) -> None:
    save(series, 4)
    (tmp_path / LATEST).write_text(json.dumps({"folder": "step-000009"}))
    with pytest.raises(CheckpointError, match=r"step-000009: no checkpoint\.json"):
        loaded(series)
    assert loaded(lenient) == (4.0, {"step": 4})


def test_a_step_can_be_written_again(series: CheckpointSeries) -> None:
    for value in (1.0, 5.0):
        series.save(1, filled(value), {})
    series.finish()
    assert loaded(series) == (5.0, {})


def test_what_changes_while_a_checkpoint_is_written_is_not_in_it(
    series: CheckpointSeries, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on, begun = threading.Event(), threading.Event()

    def late(*arguments: Any) -> None:
        begun.set()
        go_on.wait()
        write_files(*arguments)

    write_files = write._write_files
    monkeypatch.setattr(write, "_write_files", late)
    weight, losses = torch.full((3, 2), 1.0), [0.5]
    series.save(1, sharded(weight), {"losses": losses})
    begun.wait()
    weight.fill_(2.0)
    losses.append(0.25)
    series.poll()
    assert not (tmp_path / LATEST).exists()
    go_on.set()
    series.finish()
    assert loaded(series) == (1.0, {"losses": [0.5]})


def test_a_poll_publishes_what_is_written(series: CheckpointSeries, tmp_path: Path) -> None:
    series.save(1, filled(1.0), {})
    assert series._pending is not None
    series._pending._thread.join()
    assert not (tmp_path / "step-000001").exists()
    series.poll()
    assert loaded(series)[0] == 1.0


def test_what_a_killed_run_left_half_written_goes(series: CheckpointSeries, tmp_path: Path) -> None:
    (tmp_path / ".step-000004.tmp").mkdir()
    save(series, 5)
    assert sorted(path.name for path in tmp_path.iterdir()) == [LATEST, "step-000005"]


def test_a_checkpoint_of_something_else_is_refused(parallel_context: ParallelContext, tmp_path: Path) -> None:
    def series_of(**fingerprints: str) -> CheckpointSeries:
        return CheckpointSeries(tmp_path, parallel_context, SERIES_SETTINGS, fingerprints)

    save(series_of(tokenizer="a" * 64, config="b" * 64), 3)
    assert loaded(series_of(tokenizer="a" * 64, config="b" * 64))[0] == 3.0
    assert loaded(series_of())[0] == 3.0
    with pytest.raises(CheckpointError, match=r"another tokenizer \(tokenizer aaaaaaaaaaaa, now cccccccccccc\)"):
        loaded(series_of(tokenizer="c" * 64, config="b" * 64))
    with pytest.raises(CheckpointError, match=r"another config, tokenizer"):
        loaded(series_of(tokenizer="c" * 64, config="d" * 64))


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
    series: CheckpointSeries,
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

    save(series, 1)
    with monkeypatch.context() as patched:
        patched.setattr(dist_checkpointing, "save", fail)
        with pytest.raises(error, match=said):
            save(series, 2)
    assert sorted(path.name for path in tmp_path.iterdir()) == [LATEST, "step-000001"]
    assert loaded(series)[0] == 1.0


def test_a_failure_beside_the_weights_leaves_nothing(parallel_context: ParallelContext, tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(DiskFullError):
        write_checkpoint(tmp_path / "new", filled(1.0), {}, parallel_context, add_files=fail)
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

    for in_background in (False, True):
        with monkeypatch.context() as patched, pytest.raises(DiskFullError, match="the disk is full"):
            patched.setattr("os.fsync", full)
            series = CheckpointSeries(tmp_path, parallel_context, CheckpointConfig(in_background=in_background))
            save(series, 1)
        assert list(tmp_path.iterdir()) == []
