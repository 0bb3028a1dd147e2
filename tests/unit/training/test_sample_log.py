"""The list of samples is the same whatever the interruptions, and says when it is not whole."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from megatron_redone.training.sample_log import PACKED_SAMPLES, SAMPLES, SampleLog, read_sample_log


def write(folder: Path, first: int, end: int, sync_after: int | None = None) -> bool:
    """Notes steps [first, end), as a run that starts from a checkpoint of step `first`."""
    log = SampleLog(folder, enabled=True)
    whole = log.start(first)
    for step in range(first, end):
        log.add(step, [f"row-{step}", "帐篷"], [f"row-{step}"] if step % 2 else None)
        if step == sync_after:
            log.sync()
    log.close()
    return whole


def pack(folder: Path, step: int) -> bytes:
    log = SampleLog(folder, enabled=True)
    assert log.start(step)
    log.pack()
    return (folder / PACKED_SAMPLES).read_bytes()


@pytest.fixture
def whole(tmp_path: Path) -> bytes:
    folder = tmp_path / "whole"
    folder.mkdir()
    assert write(folder, 0, 6)
    return pack(folder, 6)


def test_lines_come_back(tmp_path: Path, whole: bytes) -> None:
    lines = list(read_sample_log(tmp_path / "whole" / PACKED_SAMPLES))
    assert lines[2] == {"step": 2, "read": ["row-2", "帐篷"]}
    assert lines[3] == {"step": 3, "read": ["row-3", "帐篷"], "learnt": ["row-3"]}
    assert [line["step"] for line in lines] == list(range(6))
    assert not (tmp_path / "whole" / SAMPLES).exists()


def test_a_resume_from_an_earlier_step_leaves_no_trace(tmp_path: Path, whole: bytes) -> None:
    assert write(tmp_path, 0, 5) and write(tmp_path, 3, 6)
    assert pack(tmp_path, 6) == whole


def test_a_line_torn_by_a_kill_is_cut_off(tmp_path: Path, whole: bytes) -> None:
    write(tmp_path, 0, 5)
    path = tmp_path / SAMPLES
    path.write_bytes(path.read_bytes()[:-9])
    assert write(tmp_path, 4, 6)
    assert pack(tmp_path, 6) == whole


def test_a_kill_after_packing_and_before_publishing_loses_nothing(tmp_path: Path, whole: bytes) -> None:
    write(tmp_path, 0, 6)
    pack(tmp_path, 6)
    assert write(tmp_path, 4, 6)
    assert pack(tmp_path, 6) == whole


def test_missing_steps_are_told(tmp_path: Path) -> None:
    write(tmp_path, 0, 2)
    assert not write(tmp_path, 4, 6)


def test_what_was_noted_is_on_disk_before_a_checkpoint(tmp_path: Path) -> None:
    log = SampleLog(tmp_path, enabled=True)
    log.start(0)
    log.add(0, ["a"], None)
    log.sync()
    assert (tmp_path / SAMPLES).read_text().count("\n") == 1
    log.close()


def test_other_ranks_write_nothing(tmp_path: Path) -> None:
    log = SampleLog(tmp_path, enabled=False)
    assert log.start(3)
    log.add(3, ["a"], None)
    log.sync()
    log.pack()
    assert not list(tmp_path.iterdir())


def test_equal_lists_give_equal_bytes_wherever_they_lie(tmp_path: Path, whole: bytes) -> None:
    assert gzip.decompress(whole) and b"whole" not in whole[:64] and whole[4:8] == bytes(4)
