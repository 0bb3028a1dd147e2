"""The mark of a setting that names what a stage reads."""

from __future__ import annotations

from typing import Annotated

ARTEFACT = "artefact"
Artefact = Annotated[str, ARTEFACT]
"""The name of a stage, or (with a slash in it) a path, relative to the recipe file, to a folder made elsewhere."""
OptionalArtefact = Annotated[str | None, ARTEFACT]
"""The same, or nothing."""
