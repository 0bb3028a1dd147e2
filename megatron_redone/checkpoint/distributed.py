"""Checkpoints inside a stage: Megatron's torch_dist format under a manifest, whole or absent.

A checkpoint loads into any tensor-, pipeline- and data-parallel layout of the same model. It is written beside
the final name, checksummed, renamed, and only then named by `latest.json`.
"""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from megatron_redone.common.errors import CheckpointError
from megatron_redone.common.files import atomic_write_json, disk_full_reported, fsync_directory, sha256_file
from megatron_redone.parallel.context import ParallelContext

FORMAT_VERSION = 1
LATEST = "latest.json"
MANIFEST = "checkpoint.json"

ShardedState = dict[str, Any]


def save_checkpoint(
    root: Path, step: int, state: ShardedState, extra: Mapping[str, Any], context: ParallelContext
) -> Path:
    """Writes the sharded state of all ranks and `extra` (JSON) as `root/step-NNNNNN`; older ones are removed.

    A collective. Raises DiskFullError on every rank when the disk is full; the older checkpoint stays.
    """
    from megatron.core import dist_checkpointing
    from megatron.core.dist_checkpointing.strategies.torch import TorchDistSaveShardedStrategy

    final = root / f"step-{step:06d}"
    temporary = root / f".step-{step:06d}.tmp"
    context.on_main(lambda: _fresh_folder(temporary))
    with disk_full_reported(final), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch announces deprecations of its own sharded tensors
        strategy = TorchDistSaveShardedStrategy("torch_dist", 1, thread_count=1)
        dist_checkpointing.save(state, str(temporary), sharded_strategy=strategy)
    context.barrier()
    context.on_main(lambda: _publish(root, temporary, final, step, extra))
    return final


def _fresh_folder(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)


def _publish(root: Path, temporary: Path, final: Path, step: int, extra: Mapping[str, Any]) -> None:
    files = {path.name: sha256_file(path) for path in sorted(temporary.iterdir())}
    manifest = {"format_version": FORMAT_VERSION, "step": step, "files": files, "extra": dict(extra)}
    atomic_write_json(temporary / MANIFEST, manifest)
    fsync_directory(temporary)
    shutil.rmtree(final, ignore_errors=True)
    temporary.rename(final)
    fsync_directory(root)
    atomic_write_json(root / LATEST, {"folder": final.name, "step": step})
    for older in root.glob("step-*"):
        if older != final:
            shutil.rmtree(older)


def has_checkpoint(root: Path) -> bool:
    """Whether there is a checkpoint to resume from."""
    return (root / LATEST).is_file()


def load_checkpoint(
    root: Path, build_state: Callable[[], ShardedState], context: ParallelContext
) -> tuple[ShardedState, dict[str, Any]]:
    """The state of the newest checkpoint in this rank's layout, and its `extra`.

    Args:
        build_state: makes the sharded state to be filled.
    Raises:
        CheckpointError: another format version, a missing file, or one whose checksum differs.
    """
    from megatron.core import dist_checkpointing

    folder = root / json.loads((root / LATEST).read_text())["folder"]
    manifest = context.on_main(lambda: verify_checkpoint(folder))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        state: ShardedState = dist_checkpointing.load(build_state(), str(folder))
    return state, manifest["extra"]


def verify_checkpoint(folder: Path) -> dict[str, Any]:
    """The manifest of a checkpoint whose files are all there and unchanged."""
    path = folder / MANIFEST
    if not path.is_file():
        raise CheckpointError(f"{folder}: no {MANIFEST}; not a finished checkpoint of this library")
    manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if manifest.get("format_version") != FORMAT_VERSION:
        raise CheckpointError(
            f"{folder}: format version {manifest.get('format_version')}, this library reads {FORMAT_VERSION}; "
            "load it with the version that wrote it and export to Hugging Face"
        )
    for name, expected in manifest["files"].items():
        if not (folder / name).is_file():
            raise CheckpointError(f"{folder / name}: missing; remove the checkpoint folder to start the stage afresh")
        if sha256_file(folder / name) != expected:
            raise CheckpointError(
                f"{folder / name}: the checksum differs from its manifest; the file is damaged, remove the "
                "checkpoint folder to start the stage afresh"
            )
    return manifest
