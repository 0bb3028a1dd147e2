"""Weights of a blend as a file, as a search for mixtures writes it. Imports no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from megatron_redone.common.errors import ConfigError, DataError
from megatron_redone.config.loading import load_yaml

BLEND_FILE = "blend.yaml"


def read_weights(path: Path) -> dict[str, float]:
    """Weight by corpus name from a JSON or YAML mapping, or from the key `weights` of one.

    Args:
        path: the file, or a folder with a blend.yaml.

    Raises:
        DataError: no such file, or something else than finite numbers from 0 on.
    """
    file = path / BLEND_FILE if path.is_dir() else path
    try:
        value: Any = load_yaml(file)  # JSON is YAML
    except ConfigError as error:
        raise DataError("; ".join(error.problems)) from error
    weights = value.get("weights", value)
    if not isinstance(weights, dict) or not weights:
        raise DataError(f"{file}: no weights; the file is a mapping of corpus names to weights")
    for name, weight in weights.items():
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight < float("inf"):
            raise DataError(f"{file}: the weight of {name!r} is {weight!r}; it must be a number of 0 or more")
    return {str(name): float(weight) for name, weight in weights.items()}
