"""The checkpoints of a training stage, and reading any checkpoint: verified before a byte of it counts.

A checkpoint loads into any layout of the same model. A training stage keeps its own as `step-NNNNNN` under one
folder, the newest named by `latest.json`; a converted model is one checkpoint folder with files beside the weights.
`checkpoint/write.py` writes them.
"""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from megatron_redone.checkpoint.config import DEFAULT_CHECKPOINTS, CheckpointConfig
from megatron_redone.checkpoint.manifest import json_object, verified_manifest
from megatron_redone.checkpoint.write import CheckpointWrite, ShardedState
from megatron_redone.common.errors import CheckpointError
from megatron_redone.common.files import atomic_write_json
from megatron_redone.common.logging import get_logger
from megatron_redone.parallel.context import ParallelContext

LOG = get_logger("checkpoint")
LATEST = "latest.json"


class CheckpointSeries:
    """The checkpoints of a training stage, `root/step-NNNNNN`; written one at a time, beside training if asked.

    Every method but the constructor is a collective.

    Args:
        config: which checkpoints stay, and whether training waits while one is written.
        fingerprints: of what a checkpoint belongs to (configuration, tokenizer, data); kept in the manifest, and
            compared before one is loaded.
    """

    def __init__(
        self,
        root: Path,
        context: ParallelContext,
        config: CheckpointConfig = DEFAULT_CHECKPOINTS,
        fingerprints: Mapping[str, str] | None = None,
    ) -> None:
        self.root, self.context, self.config = root, context, config
        self.fingerprints = dict(fingerprints or {})
        self._pending: CheckpointWrite | None = None

    def save(self, step: int, state: ShardedState, extra: Mapping[str, Any]) -> None:
        """Writes the sharded state of all ranks and `extra` (JSON), or begins to; older checkpoints go when it stands.

        Raises:
            DiskFullError: on every rank; it may be of the checkpoint before. The older ones stay.
        """
        self.finish()
        self.context.on_main(self._remove_unfinished)
        self._pending = CheckpointWrite(
            self.root / f"step-{step:06d}",
            state,
            extra,
            self.context,
            self.fingerprints,
            in_background=self.config.in_background,
        )
        if not self.config.in_background:
            self.finish()

    def poll(self) -> None:
        """Between two steps: publishes the checkpoint that is being written, if all ranks have written their part."""
        if self._pending is not None and self._pending.is_written():
            self.finish()

    def finish(self) -> None:
        """Waits until the checkpoint that is being written stands."""
        if self._pending is not None:
            pending, self._pending = self._pending, None
            pending.publish()
            self.context.on_main(lambda: _make_latest(pending.folder, self.config))

    def load(self, build_state: Callable[[], ShardedState]) -> tuple[ShardedState, dict[str, Any]]:
        """The state of the newest good checkpoint in this rank's layout, and its `extra`.

        Args:
            build_state: makes the sharded state to be filled.
        Raises:
            CheckpointError: another format version, a missing file, or one whose checksum differs, and none is left;
                or a checkpoint of another configuration, tokenizer or data.
        """
        folder, extra = self.context.on_main(self._newest_good)
        return read_state(folder, build_state()), extra

    def _newest_good(self) -> tuple[Path, dict[str, Any]]:
        folder, manifest = _newest_good(self.root, self.config.on_damage)
        _check_fingerprints(folder, manifest.get("fingerprints", {}), self.fingerprints)
        return folder, manifest["extra"]

    def _remove_unfinished(self) -> None:
        for left in self.root.glob(".step-*.tmp"):
            shutil.rmtree(left, ignore_errors=True)


def _check_fingerprints(folder: Path, found: Mapping[str, str], expected: Mapping[str, str]) -> None:
    changed = sorted(name for name in expected if found.get(name, expected[name]) != expected[name])
    if changed:
        was, now = (values[changed[0]][:12] for values in (found, expected))
        raise CheckpointError(
            f"{folder}: written with another {', '.join(changed)} ({changed[0]} {was}, now {now}); "
            "a run goes on with what it began with: give that back, or move the checkpoints away to start anew"
        )


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


def _newest_good(root: Path, on_damage: Literal["refuse", "older"]) -> tuple[Path, dict[str, Any]]:
    """Folder and manifest."""
    candidates = _newest_first(root)
    if (root / LATEST).is_file():
        latest = root / str(json_object(root / LATEST).get("folder"))
        # What is newer than the latest was not published; where it points nowhere, the newest there is counts.
        candidates = [latest, *(f for f in candidates if not latest.is_dir() or _step_of(f) < _step_of(latest))]
    for number, folder in enumerate(candidates, 1):
        try:
            return folder, verified_manifest(folder)
        except CheckpointError as error:
            if on_damage == "refuse" or number == len(candidates):
                raise
            LOG.warning("%s\ngoing back to the next older checkpoint", error)
    raise CheckpointError(f"{root}: no checkpoint in it; remove the folder to start anew")


def read_state(folder: Path, state: ShardedState) -> ShardedState:
    """Fills a sharded state, in the layout it was made for, from a checkpoint that was verified. A collective."""
    from megatron.core import dist_checkpointing

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loaded: ShardedState = dist_checkpointing.load(state, str(folder))
    return loaded
