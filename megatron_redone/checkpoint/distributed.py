"""Distributed checkpoints: Megatron's torch_dist format under a manifest, whole or absent.

A checkpoint loads into any tensor-, pipeline- and data-parallel layout of the same model. It is written beside
the final name, checksummed, and renamed. A training stage keeps its own as `step-NNNNNN` under one folder, the
newest named by `latest.json`; a converted model is one checkpoint folder with files beside the weights.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from megatron_redone.checkpoint.config import DEFAULT_CHECKPOINTS, CheckpointConfig
from megatron_redone.checkpoint.metadata_file import check_metadata
from megatron_redone.common.errors import CheckpointError, RedoneError
from megatron_redone.common.files import (
    ZIP_WRITER_ON_FULL_DISK,
    atomic_write_json,
    disk_full,
    disk_full_reported,
    fsync_directory,
    sha256_file,
)
from megatron_redone.common.logging import get_logger
from megatron_redone.parallel.context import ParallelContext

LOG = get_logger("checkpoint")
FORMAT_VERSION = 2
LATEST = "latest.json"
MANIFEST = "checkpoint.json"

ShardedState = dict[str, Any]


def save_checkpoint(
    root: Path,
    step: int,
    state: ShardedState,
    extra: Mapping[str, Any],
    context: ParallelContext,
    keep: CheckpointConfig = DEFAULT_CHECKPOINTS,
) -> Path:
    """Writes the sharded state of all ranks and `extra` (JSON) as `root/step-NNNNNN`; older ones go as `keep` says.

    A collective. Raises DiskFullError on every rank when the disk is full; the older checkpoints stay.
    """
    final = root / f"step-{step:06d}"
    write_checkpoint(final, state, extra, context)
    context.on_main(lambda: _make_latest(final, keep))
    return final


def _make_latest(final: Path, keep: CheckpointConfig) -> None:
    atomic_write_json(final.parent / LATEST, {"folder": final.name})
    until_now = [folder for folder in _newest_first(final.parent) if _step_of(folder) <= _step_of(final)]
    kept = set(until_now[: keep.keep_last])
    kept |= {folder for folder in until_now if keep.keep_every and _step_of(folder) % keep.keep_every == 0}
    for folder in _newest_first(final.parent):
        if folder not in kept:  # those of later steps too: the run went back behind them
            shutil.rmtree(folder)


def _newest_first(root: Path) -> list[Path]:
    return sorted(root.glob("step-*"), key=_step_of, reverse=True)


def _step_of(folder: Path) -> int:
    return int(folder.name.removeprefix("step-"))


def has_checkpoint(root: Path) -> bool:
    """Whether there is a checkpoint to resume from."""
    return (root / LATEST).is_file() or any(root.glob("step-*"))


def load_checkpoint(
    root: Path,
    build_state: Callable[[], ShardedState],
    context: ParallelContext,
    on_damage: Literal["refuse", "older"] = "refuse",
) -> tuple[ShardedState, dict[str, Any]]:
    """The state of the newest good checkpoint in this rank's layout, and its `extra`. A collective.

    Args:
        build_state: makes the sharded state to be filled.
        on_damage: whether a damaged checkpoint ends the run, or is told and the next older one taken.
    Raises:
        CheckpointError: another format version, a missing file, or one whose checksum differs; none is left.
    """
    folder, extra = context.on_main(lambda: _newest_good(root, on_damage))
    return read_state(folder, build_state()), extra


def _newest_good(root: Path, on_damage: Literal["refuse", "older"]) -> tuple[Path, dict[str, Any]]:
    candidates = _newest_first(root)
    if (root / LATEST).is_file():
        latest = root / str(_json_object(root / LATEST).get("folder"))
        # What is newer than the latest was not published; where it points nowhere, the newest there is counts.
        candidates = [latest, *(f for f in candidates if not latest.is_dir() or _step_of(f) < _step_of(latest))]
    for number, folder in enumerate(candidates, 1):
        try:
            return folder, verify_checkpoint(folder)
        except CheckpointError as error:
            if on_damage == "refuse" or number == len(candidates):
                raise
            LOG.warning("%s\ngoing back to the next older checkpoint", error)
    raise CheckpointError(f"{root}: no checkpoint in it; remove the folder to start anew")


def write_checkpoint(
    folder: Path,
    state: ShardedState,
    extra: Mapping[str, Any],
    context: ParallelContext,
    add_files: Callable[[Path], None] | None = None,
) -> None:
    """Writes the sharded state of all ranks and `extra` (JSON) as `folder`, which it replaces. A collective.

    Args:
        add_files: writes more files into the folder it is given (called on rank 0); the manifest covers them.
    Raises:
        DiskFullError: on every rank; what stood under the name is untouched. RedoneError: another failure to write.
    """
    temporary = folder.with_name(f".{folder.name}.tmp")
    context.on_main(lambda: _fresh_folder(temporary, folder))
    try:
        _save_state(temporary, folder, state, context)
        context.on_main(lambda: _publish(temporary, folder, extra, add_files))
    finally:
        if context.is_main:
            shutil.rmtree(temporary, ignore_errors=True)


def _fresh_folder(temporary: Path, folder: Path) -> None:
    shutil.rmtree(temporary, ignore_errors=True)
    with disk_full_reported(folder):
        temporary.mkdir(parents=True)


def _save_state(temporary: Path, folder: Path, state: ShardedState, context: ParallelContext) -> None:
    from megatron.core import dist_checkpointing
    from megatron.core.dist_checkpointing.strategies.torch import TorchDistSaveShardedStrategy
    from torch.distributed.checkpoint.api import CheckpointException

    from megatron_redone.checkpoint.writer import written_in_this_process

    try:
        with disk_full_reported(folder), written_in_this_process(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch announces deprecations of its own sharded tensors
            strategy = TorchDistSaveShardedStrategy("torch_dist", 1, thread_count=1)
            dist_checkpointing.save(state, str(temporary), sharded_strategy=strategy)
    except CheckpointException as error:  # raised on every rank alike, with its cause on rank 0 only
        failures = error.failures
        raise context.on_main(lambda: _reported(failures, folder)) from error


def _reported(failures: Mapping[int, tuple[BaseException, Any]], folder: Path) -> RedoneError:
    """Our error for what the writers of the ranks met."""
    causes = {rank: str(cause) for rank, (cause, _) in failures.items()}
    signs = ("No space left", "Disk quota exceeded", *ZIP_WRITER_ON_FULL_DISK)
    if any(sign in cause for cause in causes.values() for sign in signs):
        return disk_full(folder)
    first = "; ".join(f"rank {rank}: {cause}" for rank, cause in sorted(causes.items())[:3])
    return RedoneError(f"{folder}: the checkpoint could not be written ({first}); nothing under that name was changed")


def _publish(temporary: Path, folder: Path, extra: Mapping[str, Any], add_files: Callable[[Path], None] | None) -> None:
    with disk_full_reported(folder):
        if add_files is not None:
            add_files(temporary)
        files = {
            path.relative_to(temporary).as_posix(): _sync_and_hash(path)
            for path in sorted(temporary.rglob("*"))
            if path.is_file()
        }
        manifest = {"format_version": FORMAT_VERSION, "files": files, "extra": dict(extra)}
        atomic_write_json(temporary / MANIFEST, manifest)
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
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_state(folder: Path, state: ShardedState) -> ShardedState:
    """Fills a sharded state, in the layout it was made for, from a checkpoint that was verified. A collective."""
    from megatron.core import dist_checkpointing

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loaded: ShardedState = dist_checkpointing.load(state, str(folder))
    return loaded


def verify_checkpoint(folder: Path) -> dict[str, Any]:
    """The `extra` of a checkpoint whose files are all there and unchanged.

    Raises:
        CheckpointError: not a finished checkpoint, another format version, a missing or changed file, or metadata
            that name more than the parts of a checkpoint.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise CheckpointError(f"{folder}: no {MANIFEST}; not a finished checkpoint of this library")
    manifest = _json_object(path)
    if manifest.get("format_version") != FORMAT_VERSION:
        raise CheckpointError(
            f"{folder}: format version {manifest.get('format_version')}, this library reads {FORMAT_VERSION}; "
            "load it with the version that wrote it and export to Hugging Face"
        )
    for name, expected in manifest["files"].items():
        if not (folder / name).is_file():
            raise CheckpointError(f"{folder / name}: missing; {_REMEDY}")
        if sha256_file(folder / name) != expected:
            raise CheckpointError(
                f"{folder / name}: the checksum differs from its manifest, so the file is damaged; {_REMEDY}"
            )
    check_metadata(folder)
    extra: dict[str, Any] = manifest["extra"]
    return extra


_REMEDY = "copy the checkpoint again, or remove its folder and write it anew"


def _json_object(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except ValueError as error:  # bad JSON or bad UTF-8
        raise CheckpointError(f"{path}: not JSON ({error}); {_REMEDY}") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path}: a {type(value).__name__}, expected a JSON object; {_REMEDY}")
    return value
