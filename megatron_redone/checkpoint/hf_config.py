"""config.json of Hugging Face model folders. Imports no torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from megatron_redone.common.errors import CheckpointError

COMPANION_FOLDER = "hugging_face"
"""Where a converted checkpoint keeps config, tokenizer and template."""


def companion_folder(folder: Path) -> Path:
    """Where config and tokenizer of a model lie: in its folder, or for a Megatron checkpoint in one of their own."""
    inner = folder / COMPANION_FOLDER
    return inner if inner.is_dir() else folder


def read_config(folder: Path) -> dict[str, Any]:
    """config.json of a model folder.

    Raises:
        CheckpointError: no such folder or file, or not a JSON object.
    """
    if not folder.is_dir():
        raise CheckpointError(f"{folder}: no such folder; give a Hugging Face model folder")
    path = folder / "config.json"
    if not path.is_file():
        raise CheckpointError(f"{folder}: no config.json; expected a Hugging Face model folder")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise CheckpointError(f"{path}: not JSON ({error}); download the file again") from error
    if not isinstance(config, dict):
        raise CheckpointError(f"{path}: a {type(config).__name__}, expected a JSON object; download the file again")
    return config
