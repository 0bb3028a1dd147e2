"""What the settings of a stage asked for, against what it did."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from megatron_redone.reporting.run_files import RunFiles
from megatron_redone.reporting.schema import Manifest

STEPS = {"sft": "steps", "pretrain": "steps", "dpo": "steps", "dapo": "num_rollouts"}
"""Kind -> the setting that `counts.steps` answers to."""


@dataclass(frozen=True)
class PlannedItem:
    """One quantity of one stage, over its seeds."""

    stage: str
    what: str
    planned: float
    actual: tuple[float, ...]
    """One a seed."""

    @property
    def is_met(self) -> bool:
        """Whether every seed did what was asked for."""
        return all(math.isclose(value, self.planned) for value in self.actual)

    @property
    def actual_text(self) -> str:
        """`12` where all seeds agree, else `11 to 12`."""
        low, high = min(self.actual), max(self.actual)
        return f"{low:,.10g}" if low == high else f"{low:,.10g} to {high:,.10g}"


def planned_items(files: RunFiles) -> tuple[PlannedItem, ...]:
    """Steps, rollouts and rows that settings name, for the stages that are done."""
    found: dict[tuple[str, str], tuple[float, list[float]]] = {}
    for stage in files.stages:
        if stage.manifest is not None:
            for what, planned, actual in _quantities(stage.manifest):
                found.setdefault((stage.stage.name, what), (planned, []))[1].append(actual)
    return tuple(PlannedItem(stage, what, planned, tuple(actual)) for (stage, what), (planned, actual) in found.items())


def _quantities(manifest: Manifest) -> Iterator[tuple[str, float, float]]:
    """(what, planned, actual) of a stage."""
    config, counts = manifest.config, manifest.counts
    setting = STEPS.get(manifest.kind)
    if setting is not None and "steps" in counts:
        if _is_number(config.get(setting)):
            yield ("rollouts" if setting == "num_rollouts" else "steps"), config[setting], counts["steps"]
        elif _is_number(config.get("epochs")) and counts.get("rows_per_epoch") and _is_number(_batch(config)):
            passes = counts["steps"] * _batch(config) / counts["rows_per_epoch"]
            yield "passes over the rows", config["epochs"], round(passes, 3)
        elif "matched_compute_tokens" in counts and "compute_tokens" in counts:
            yield "computed tokens", counts["matched_compute_tokens"], counts["compute_tokens"]
    if manifest.kind == "target_set":
        yield from _target_set(config, counts)
    elif manifest.kind == "refinement_set" and _is_number(config.get("num_rows")) and "rows" in counts:
        yield "rows", config["num_rows"], counts["rows"]
        if _is_number(config.get("rationale_share")) and "rows_with_rationale" in counts:
            yield (
                "rows with rationale",
                round(config["rationale_share"] * counts["rows"]),
                counts["rows_with_rationale"],
            )
    elif manifest.kind == "sft_set" and _is_number(config.get("num_rows")) and "conversations" in counts:
        yield "rows", config["num_rows"], counts["conversations"]


def _target_set(config: dict[str, Any], counts: dict[str, int | float]) -> Iterator[tuple[str, float, float]]:
    """Rows of the weak tasks, and soft-labelled ones by their share: those below the quality floor are missing."""
    kept = {name: counts.get(f"soft_labels/{name}/kept", 0) for name in ("general", "healthy")}
    shares = {name: config.get(f"{name}_share", 0.0) for name in kept}
    if not _is_number(config.get("num_rows")) or "conversations" not in counts:
        return
    weak = counts["conversations"] - sum(kept.values())
    yield "rows of weak tasks", config["num_rows"], weak
    for name, share in shares.items():
        if share:
            yield f"{name} rows with soft labels", round(share * weak / (1 - sum(shares.values()))), kept[name]


def _batch(config: dict[str, Any]) -> Any:
    """Rows of one step."""
    return config.get("global_batch_size")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
