from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from megatron_redone.common.errors import DiskFullError
from megatron_redone.common.files import atomic_directory, atomic_write_json, atomic_write_text, sha256_path


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "model"
    with atomic_directory(target) as work:
        (work / "a").write_text("first")
        assert not target.exists()
    with pytest.raises(ZeroDivisionError), atomic_directory(target) as work:
        (work / "a").write_text("second")
        raise ZeroDivisionError
    assert (target / "a").read_text() == "first" and names(tmp_path) == ["model"]
    with atomic_directory(target) as work:
        (work / "b").write_text("third")
    assert names(target) == ["b"] and names(tmp_path) == ["model"]


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "run.json"
    atomic_write_text(path, "old")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DiskFullError, match=r"run\.json: the disk is full .* Nothing under that name was changed"):
        atomic_write_text(path, "new")
    assert path.read_text() == "old" and names(tmp_path) == ["run.json"]


def test_the_hash_of_a_folder_is_that_of_its_results(tmp_path: Path) -> None:
    for name, seconds in (("one", 1), ("other", 2)):
        atomic_write_json(tmp_path / name / "model" / "config.json", {"layers": 4})
        atomic_write_json(tmp_path / name / "manifest.json", {"seconds": seconds})
        atomic_write_text(tmp_path / name / "timing.jsonl", f"{seconds}\n")
        atomic_write_text(tmp_path / name / "tensorboard" / f"events.out.tfevents.{seconds}", "")
    assert sha256_path(tmp_path / "one") == sha256_path(tmp_path / "other")
    (tmp_path / "other" / "model").rename(tmp_path / "other" / "weights")
    assert sha256_path(tmp_path / "one") != sha256_path(tmp_path / "other")
