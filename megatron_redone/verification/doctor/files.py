"""The file system that runs go to: speed, space, locks, renames. Imports no torch."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from megatron_redone.verification.doctor.findings import Finding, error, ok, warning

WRITTEN_MIB = 64
MIN_MIB_PER_SECOND = 100.0
MIN_FREE_GIB = 20.0
TRY_LOCK = """
import fcntl, sys
with open(sys.argv[1], "a+") as file:
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        sys.exit(3)
"""
HELD = 3


def look_at_files(folder: Path, written_mib: int = WRITTEN_MIB) -> Iterator[Finding]:
    """Writes into `folder`, takes a lock there, and cleans up."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=".redone-doctor-", dir=folder))
    except OSError as problem:
        yield error("files", f"{folder}: cannot be written ({problem.strerror})", "choose another folder with --folder")
        return
    try:
        yield from _space(folder)
        yield from _speed(work, written_mib)
        yield from _lock(work)
        yield from _rename(work)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _space(folder: Path) -> Iterator[Finding]:
    free = shutil.disk_usage(folder).free / 2**30
    told = f"{folder}: {free:.1f} GiB free"
    mend = "free space, or choose another `output`: a checkpoint takes 18 bytes a parameter in bf16 training"
    yield ok("files", told) if free >= MIN_FREE_GIB else warning("files", told, mend)


def _speed(work: Path, written_mib: int) -> Iterator[Finding]:
    block = os.urandom(1 << 20)
    began = time.perf_counter()
    try:
        with (work / "speed").open("wb") as file:
            for _ in range(written_mib):
                file.write(block)
            file.flush()
            os.fsync(file.fileno())
    except OSError as problem:
        yield error("files", f"{work.parent}: writing failed ({problem.strerror})", "free space, or ask for quota")
        return
    rate = written_mib / (time.perf_counter() - began)
    told = f"{work.parent}: {rate:.0f} MiB/s for {written_mib} MiB written and synced by one process"
    mend = "checkpoints wait for it: use a faster file system, and set checkpoint_gb_per_second in the profile"
    yield ok("files", told) if rate >= MIN_MIB_PER_SECOND else warning("files", told, mend)


def _lock(work: Path) -> Iterator[Finding]:
    """Whether a lock that this process holds keeps another one out, as `redone run` relies on."""
    path = work / "lock"
    mend = "mount the file system with locks (NFS: v4, or v3 without nolock; Lustre: -o flock)"
    with path.open("a+") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as problem:
            yield error("files", f"{work.parent}: no locks ({problem.strerror})", mend)
            return
        other = subprocess.run([sys.executable, "-c", TRY_LOCK, str(path)], check=False).returncode
    if other == HELD:
        yield ok("files", f"{work.parent}: locks keep other processes out")
    else:
        yield error("files", f"{work.parent}: a lock did not keep another process out", mend)


def _rename(work: Path) -> Iterator[Finding]:
    """Folders become whole by a rename."""
    (work / "before").mkdir()
    (work / "before" / "file").write_text("x", encoding="utf-8")
    (work / "before").rename(work / "after")
    if (work / "after" / "file").is_file() and not (work / "before").exists():
        yield ok("files", f"{work.parent}: folders are renamed at once")
    else:
        yield error("files", f"{work.parent}: a renamed folder is not there", "use another file system for runs")
