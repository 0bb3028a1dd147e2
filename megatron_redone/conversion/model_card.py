"""README.md of a model: what it was made of and by which stages, with the fingerprints of the data and the scores.

A model that a recipe made lies in its stage's folder, RUN/STAGE/model; the manifests of that stage and of those before
it say everything. A model from elsewhere brings its own card.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from megatron_redone.models.config import ModelShape
from megatron_redone.version import __version__

CARD = "README.md"
MANIFEST, RESULTS = "manifest.json", "evaluation/results.json"
_LICENCE = re.compile(r"^license:\s*(\S+)\s*$", re.MULTILINE)


def model_card(folder: Path, shape: ModelShape) -> str:
    """The card of a model folder: its own if it has one, else one made of the manifests of its stages."""
    own = folder / CARD
    if own.is_file():
        return own.read_text(encoding="utf-8")
    stages = list(_stages(folder))
    base = _base_of(stages)
    lines = ["---", f"license: {_licence(base)}", "library_name: transformers", "---", "", "# Model card", ""]
    lines += [f"- Architecture: {shape.family}, {shape.num_parameters():,} parameters"]
    lines += [f"- Starts from: {base}" if base is not None else "- Starts from: random weights, or not recorded"]
    lines += [f"- Written by megatron-redone {__version__}", ""]
    if stages:
        lines += ["| stage | kind | seed | inputs (first digits of their SHA-256) | mean score |"]
        lines += ["|---|---|---|---|---|"]
        lines += [_row(path, manifest) for path, manifest in reversed(stages)]
    else:
        lines.append("No manifest of a training stage stands beside it: how it was trained is not recorded here.")
    return "\n".join(lines) + "\n"


def _stages(model: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """The stage that made the model, and those that made the models before it, newest first."""
    stage = model.parent
    seen: set[Path] = set()
    while (stage / MANIFEST).is_file() and stage not in seen:
        seen.add(stage)
        manifest = json.loads((stage / MANIFEST).read_text(encoding="utf-8"))
        yield stage, manifest
        before = next((r["path"] for name, r in manifest["inputs"].items() if name in ("model", "model.path")), None)
        if before is None:
            return
        stage = stage.parent / before


def _base_of(stages: list[tuple[Path, dict[str, Any]]]) -> str | None:
    """The folder that the first stage started from, if it was made elsewhere."""
    if not stages:
        return None
    path, manifest = stages[-1]
    for name in ("model.path", "model"):
        record = manifest["inputs"].get(name)
        if record is not None and not (path.parent / record["path"] / MANIFEST).is_file():
            return str(record["path"])
    return None


def _licence(base: str | None) -> str:
    """The licence that the base's own card names."""
    if base is not None and (Path(base) / CARD).is_file():
        match = _LICENCE.search((Path(base) / CARD).read_text(encoding="utf-8"))
        if match:
            return match.group(1)
    return "other  # that of the model it starts from"


def _row(path: Path, manifest: dict[str, Any]) -> str:
    results = path / RESULTS
    score = f"{json.loads(results.read_text())['mean_score']:.1f}" if results.is_file() else ""
    inputs = ", ".join(f"{name} {record['sha256'][:12]}" for name, record in sorted(manifest["inputs"].items()))
    seeds = ", ".join(map(str, manifest["seeds"]))
    return f"| {manifest['stage']} | {manifest['kind']} | {seeds} | {inputs} | {score} |"
