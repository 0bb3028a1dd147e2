"""The manifest of a checkpoint folder: format version, checksums of all files, what the checkpoint belongs to.

A folder with a manifest is whole: it gets one last, before it gets its name. Imports no Megatron.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from megatron_redone.checkpoint.metadata_file import check_metadata
from megatron_redone.common.errors import CheckpointError
from megatron_redone.common.files import atomic_write_json, fsync_directory, sha256_file
from megatron_redone.launch.environment import default_threads

FORMAT_VERSION = 3
MANIFEST = "checkpoint.json"
HASHING_THREADS = 8


def manifest_of(extra: dict[str, Any], fingerprints: Mapping[str, str] | None) -> dict[str, Any]:
    """The manifest of a checkpoint without its files."""
    return {"format_version": FORMAT_VERSION, "extra": extra, "fingerprints": dict(fingerprints or {})}


def publish_folder(temporary: Path, folder: Path, manifest: Mapping[str, Any], hashes: Mapping[str, str]) -> None:
    """Gives a complete folder its manifest and its name, in place of what stood under it.

    Args:
        hashes: checksums, by name, of the files whose data are known to be on disk; the others are synced and read.
    """
    paths = {path.relative_to(temporary).as_posix(): path for path in sorted(temporary.rglob("*")) if path.is_file()}
    files = {name: hashes.get(name) or _sync_and_hash(path) for name, path in paths.items()}
    atomic_write_json(temporary / MANIFEST, {**manifest, "files": files})
    for inner in [temporary, *(path for path in temporary.rglob("*") if path.is_dir())]:
        fsync_directory(inner)
    before = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(before, ignore_errors=True)
    if folder.exists():
        folder.rename(before)
    temporary.rename(folder)
    fsync_directory(folder.parent)
    shutil.rmtree(before, ignore_errors=True)


def _sync_and_hash(path: Path) -> str:
    with path.open("rb") as file:
        os.fsync(file.fileno())
    return sha256_file(path)


def verify_checkpoint(folder: Path) -> dict[str, Any]:
    """The `extra` of a checkpoint whose files are all there and unchanged; raises as `verified_manifest`."""
    extra: dict[str, Any] = verified_manifest(folder)["extra"]
    return extra


def verified_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a checkpoint whose files are all there and unchanged.

    Raises:
        CheckpointError: not a finished checkpoint, another format version, a missing or changed file, or metadata
            that name more than the parts of a checkpoint.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise CheckpointError(f"{folder}: no {MANIFEST}; not a finished checkpoint of this library")
    manifest = json_object(path)
    if manifest.get("format_version") != FORMAT_VERSION:
        raise CheckpointError(
            f"{folder}: format version {manifest.get('format_version')}, this library reads {FORMAT_VERSION}; "
            "load it with the version that wrote it and export to Hugging Face"
        )
    for name in manifest["files"]:
        if not (folder / name).is_file():
            raise CheckpointError(f"{folder / name}: missing; {_REMEDY}")
    with ThreadPoolExecutor(min(HASHING_THREADS, default_threads(1))) as pool:
        found = list(pool.map(lambda name: sha256_file(folder / name), manifest["files"]))
    for (name, expected), digest in zip(manifest["files"].items(), found, strict=True):
        if digest != expected:
            raise CheckpointError(
                f"{folder / name}: the checksum differs from its manifest, so the file is damaged; {_REMEDY}"
            )
    check_metadata(folder)
    return manifest


_REMEDY = "copy the checkpoint again, or remove its folder and write it anew"


def json_object(path: Path) -> dict[str, Any]:
    """The object of a JSON file; raises CheckpointError when it holds none."""
    try:
        value = json.loads(path.read_bytes())
    except ValueError as error:  # bad JSON or bad UTF-8
        raise CheckpointError(f"{path}: not JSON ({error}); {_REMEDY}") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path}: a {type(value).__name__}, expected a JSON object; {_REMEDY}")
    return value
