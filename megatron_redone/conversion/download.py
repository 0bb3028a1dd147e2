"""A model by its name on the hub, or the folder that it is in."""

from __future__ import annotations

import re
from pathlib import Path

from megatron_redone.common.errors import InputError
from megatron_redone.conversion.hf_model import COMPANIONS, TEMPLATE_FOLDER

WANTED = ["*.safetensors", "model.safetensors.index.json", *COMPANIONS, f"{TEMPLATE_FOLDER}/*", "README.md"]


def model_folder(name: str) -> Path:
    """The folder of that name, or the one that the hub's cache has after a download of `org/name`.

    Raises:
        InputError: neither a folder nor a model that can be downloaded.
    """
    folder = Path(name)
    if folder.exists() or not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        return folder
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=WANTED))
    except Exception as error:
        raise InputError(
            f"--hf {name}: no such folder, and the download of a model of this name failed ({error}); give a folder, "
            "or look at the name and the connection"
        ) from error
