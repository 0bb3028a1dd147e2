"""Where a conversion may write. Imports no torch."""

from __future__ import annotations

import os
from pathlib import Path

from megatron_redone.common.errors import InputError


def check_output(out: Path) -> None:
    """Raises InputError unless `out` is a new or empty folder that can be made; nothing is ever overwritten."""
    if out.is_dir():
        if any(out.iterdir()):
            raise InputError(f"{out}: exists and is not empty; give a new folder, or remove this one")
    elif out.exists() or out.is_symlink():
        raise InputError(f"{out}: exists and is no folder; give a new folder")
    above = next(folder for folder in out.absolute().parents if folder.exists())
    if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
        raise InputError(f"{out}: {above} is not a folder that you may write to; give another place")
