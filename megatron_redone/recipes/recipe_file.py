"""A recipe file and the ones it extends, laid over each other. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from megatron_redone.common.errors import ConfigError
from megatron_redone.config.loading import load_yaml, merge_sections

EXTENDS = "extends"


def read_recipe_file(path: Path) -> dict[str, Any]:
    """The sections of a recipe; where it says `extends: FILE`, laid over those of that file, which may extend another.

    Sections are merged key by key, lists and single values replaced whole. A stage of another `kind` than below
    replaces the one below whole; `null` in place of a stage takes it out (see `without_null_stages`). The file named
    by `extends` is looked for beside the file that names it; all other paths are relative to `path` itself.

    Raises:
        ConfigError: a file that cannot be read, or files that extend each other.
    """
    layers: list[dict[str, Any]] = []
    chain: list[Path] = []
    following: Path | None = path
    while following is not None:
        if following.resolve() in (seen.resolve() for seen in chain):
            names = " -> ".join(str(file) for file in [*chain, following])
            raise ConfigError([f"{path}: files extend each other: {names}; take one `{EXTENDS}` out"])
        chain.append(following)
        layer = load_yaml(following)
        base = layer.pop(EXTENDS, None)
        if base is not None and not isinstance(base, str):
            raise ConfigError([f"{following}: {EXTENDS}={base!r} must be the name of one file"])
        layers.insert(0, layer)
        following = None if base is None else following.parent / base
    data = layers[0]
    for layer in layers[1:]:
        data = merge_sections(_without_replaced(data, layer), layer)
    return data


def _without_replaced(below: dict[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """`below` without the stages that `above` defines anew."""
    old, new = below.get("stages"), above.get("stages")
    if not isinstance(old, dict) or not isinstance(new, Mapping):
        return below
    for name, stage in new.items():
        kind = stage.get("kind") if isinstance(stage, Mapping) else None
        if kind is not None and isinstance(old.get(name), Mapping) and old[name].get("kind") != kind:
            old[name] = None  # keeps its place in the order
    return below


def without_null_stages(stages: Mapping[str, Any]) -> dict[str, Any]:
    """The stages that are left when those set to null are taken out."""
    return {name: stage for name, stage in stages.items() if stage is not None}
