"""What a stage that writes a training file keeps out of it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from megatron_redone.curation.config import HeldOutConfig
from megatron_redone.curation.held_out import HeldOut
from megatron_redone.recipes.execution import Execution


def held_out_files(
    execution: Execution, config: HeldOutConfig, extra: Sequence[str], folder: Path | None, but: Collection[Path] = ()
) -> list[Path]:
    """Held-out files and folders: those of the known names in `folder`, and the inputs `held_out_rows`.

    Args:
        folder: where the training rows lie; a file or None has nothing beside it.
        but: what the stage was asked to train on, whatever its name.
    """
    found = []
    if folder is not None and folder.is_dir():
        beside = [folder / name for name in config.files]
        found = [path for path in beside if path not in but and path.is_file() and path.stat().st_size]
    return [*found, *(execution.input_path(f"held_out_rows.{place}") for place in range(len(extra)))]


def held_out_of(
    execution: Execution, config: HeldOutConfig, extra: Sequence[str], folder: Path | None, but: Collection[Path] = ()
) -> HeldOut | None:
    """The index of those files; None where there are none."""
    files = held_out_files(execution, config, extra, folder, but)
    return HeldOut(files, config) if files else None
