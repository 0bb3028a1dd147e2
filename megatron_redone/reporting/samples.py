"""Rows to look at: the same row under each stage, drawn by a hash of the row's id and not by its result."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from megatron_redone.common.jsonl import read_jsonl
from megatron_redone.common.seeding import derive_seed
from megatron_redone.reporting.run_files import RunFiles, StageFiles
from megatron_redone.reporting.schema import Prediction, validate_result


@dataclass(frozen=True)
class StageOutput:
    """What one stage answered to the row."""

    stage: str
    prediction: Prediction


@dataclass(frozen=True)
class Sample:
    """One row with the answer of each evaluated stage that has predictions."""

    row: Prediction
    outputs: tuple[StageOutput, ...]


@dataclass(frozen=True)
class Samples:
    """Rows for the report, all from one seed."""

    seed: int | None
    drawn: tuple[Sample, ...]
    """Of each task the same number of rows."""
    lost: tuple[Sample, ...]
    """Rows whose score fell most between the stages compared; no more than asked for."""
    num_lost: int
    """How many rows fell at all."""
    num_compared: int


def choose_samples(files: RunFiles, per_task: int = 1, most_drawn: int = 24, most_lost: int = 6) -> Samples:
    """Reads predictions of the first seed that has them after the last stage and picks rows.

    `lost` takes rows by their loss, equal ones by hash. A row that a stage did not answer lacks that stage.
    """
    line = _line(files)
    last = _read(line[-1]) if line else {}
    comparison = files.run.comparison
    by_name = {stage.stage.name: stage for stage in line}
    before = _read(by_name.get(comparison.before)) if comparison else {}
    after = _read(by_name.get(comparison.after)) if comparison else {}
    base = after or before or last
    drawn = _drawn(base.values(), per_task)[:most_drawn]
    loss = {key: before[key].value - after[key].value for key in after if key in before}
    fallen = sorted((key for key in loss if loss[key] > 0), key=lambda key: (-loss[key], _order(key)))
    lost = fallen[:most_lost]
    outputs: dict[str, list[StageOutput]] = {key: [] for key in [*drawn, *lost]}
    for stage in line:
        predictions = _read(stage)
        for key, found in outputs.items():
            if key in predictions:
                found.append(StageOutput(stage.stage.name, predictions[key]))
    return Samples(
        seed=next((stage.stage.seed for stage in reversed(line) if stage.stage.seed is not None), None),
        drawn=tuple(Sample(base[key], tuple(outputs[key])) for key in drawn),
        lost=tuple(Sample(after[key], tuple(outputs[key])) for key in lost),
        num_lost=len(fallen),
        num_compared=len(loss),
    )


def _line(files: RunFiles) -> list[StageFiles]:
    """The evaluated stages with predictions: those of one seed and those shared by all seeds, arms last."""
    comparison = files.run.comparison
    wanted = files.of_name(comparison.after) if comparison else []
    candidates = [stage.stage.seed for stage in [*wanted, *files.stages] if stage.predictions]
    chosen = next((seed for seed in candidates if seed is not None), None)
    line = []
    for name in files.evaluated():
        line += [s for s in files.of_name(name) if s.predictions and s.stage.seed in (chosen, None)][:1]
    return line


def _read(stage: StageFiles | None) -> dict[str, Prediction]:
    """Row id -> prediction."""
    if stage is None or stage.predictions is None:
        return {}
    path: Path = stage.predictions
    rows = (validate_result(row, Prediction, f"{path}:{line}") for line, row in read_jsonl(path))
    return {row.id: row for row in rows}


def _drawn(rows: Iterable[Prediction], per_task: int) -> list[str]:
    by_task: dict[str, list[str]] = {}
    for row in rows:
        by_task.setdefault(row.task, []).append(row.id)
    return [key for task in sorted(by_task) for key in sorted(by_task[task], key=_order)[:per_task]]


def _order(key: str) -> int:
    return derive_seed("report sample", key)
