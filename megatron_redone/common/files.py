"""Files that are either whole or absent: temporary sibling, fsync, rename, fsync of the parent."""

from __future__ import annotations

import contextlib
import errno
import gzip
import hashlib
import json
import os
import shutil
from collections.abc import Collection, Iterator
from io import BufferedReader
from pathlib import Path
from typing import Any, cast

from megatron_redone.common.errors import DiskFullError

ZIP_WRITER_ON_FULL_DISK = ("file write failed", "unexpected pos", "iostream error")
"""Parts of the messages with which torch's zip writer reports a full disk, as a RuntimeError."""


def fsync_directory(path: Path) -> None:
    """Makes the entries of a folder durable (a rename is not, before its folder is synced)."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def disk_full_reported(path: Path) -> Iterator[None]:
    """Turns "no space left" into a DiskFullError that names the target; other errors pass unchanged."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise disk_full(path) from error
        raise
    except RuntimeError as error:
        if any(sign in str(error) for sign in ZIP_WRITER_ON_FULL_DISK):
            raise disk_full(path) from error
        raise


def disk_full(path: Path) -> DiskFullError:
    """The error for a full disk at `path`, with what is free there."""
    folder = next(p for p in [path, *path.parents] if p.exists())
    free_mib = shutil.disk_usage(folder).free / 2**20
    return DiskFullError(
        f"{path}: the disk is full ({free_mib:.0f} MiB free). Nothing under that name was changed; "
        "free space and run the same command again."
    )


def atomic_write_bytes(path: Path, content: bytes) -> None:
    """Replaces `path` by `content`; a crash leaves the old file or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with disk_full_reported(path):
        try:
            with temporary.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    fsync_directory(path.parent)


def atomic_write_text(path: Path, text: str) -> None:
    """`atomic_write_bytes` in UTF-8."""
    atomic_write_bytes(path, text.encode("utf-8", errors="surrogatepass"))


def atomic_write_json(path: Path, value: Any) -> None:
    """Writes JSON with sorted keys, so that equal values give equal bytes."""
    atomic_write_text(path, json.dumps(value, ensure_ascii=False, indent=2, sort_keys=True) + "\n")


@contextlib.contextmanager
def atomic_directory(path: Path) -> Iterator[Path]:
    """Yields an empty temporary folder that becomes `path` on success and vanishes on an error.

    An existing `path` is replaced only after the new folder is complete and synced.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    with disk_full_reported(path):
        try:
            temporary.mkdir()
            yield temporary
            _sync_tree(temporary)
            old = path.with_name(f".{path.name}.{os.getpid()}.old")
            if path.exists():
                path.rename(old)
            temporary.rename(path)
            fsync_directory(path.parent)
            shutil.rmtree(old, ignore_errors=True)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def _sync_tree(folder: Path) -> None:
    for root, _, names in os.walk(folder):
        for name in names:
            descriptor = os.open(os.path.join(root, name), os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        fsync_directory(Path(root))


def open_unpacked(path: Path) -> BufferedReader:
    """The bytes of a file, unpacked where its name ends with `.gz`."""
    return cast(BufferedReader, gzip.open(path, "rb")) if path.name.endswith(".gz") else path.open("rb")


def sha256_file(path: Path) -> str:
    """Hex SHA-256 of a file's bytes, read in 1 MiB pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_path(path: Path, leave_out: Collection[str] = ()) -> str:
    """SHA-256 of a file, or of a folder: names and contents of its files in sorted order.

    Entries of the folder itself that `leave_out` names do not count. Neither do files that record only times or
    progress (`manifest.json`, `timing.jsonl`, `*.log`, TensorBoard events), so that two runs with equal results have
    equal hashes.
    """
    if path.is_file():
        return sha256_file(path)
    digest = hashlib.sha256()
    for file in sorted(p for p in path.rglob("*") if p.is_file()):
        name = file.relative_to(path).as_posix()
        if name.partition("/")[0] in leave_out:
            continue
        if file.name in ("manifest.json", "timing.jsonl") or file.suffix == ".log" or "tfevents" in file.name:
            continue
        digest.update(f"{name}\0{sha256_file(file)}\n".encode())
    return digest.hexdigest()
