"""Which code makes an artefact: the version of the package and a hash of the files that can change a result."""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path

from megatron_redone.version import __version__

PACKAGE = Path(__file__).resolve().parents[1]
SHOWS_ONLY = ("cli", "reporting", "benchmarks", "verification")
"""Rooms that no artefact depends on."""


@functools.cache
def code_version() -> str:
    """`0.1.0+5f0c9a1e77d2`: equal for equal code, wherever it is installed.

    The hash is over names and contents of the Python files of all rooms but those that only show results. A comment
    changes it: it says that code is the same, never that results differ.
    """
    digest = hashlib.sha256()
    for file in sorted(PACKAGE.rglob("*.py")):
        name = file.relative_to(PACKAGE)
        if name.parts[0] not in SHOWS_ONLY:
            digest.update(f"{name.as_posix()}\0".encode() + file.read_bytes())
    return f"{__version__}+{digest.hexdigest()[:12]}"
