"""Evaluations to compare: folders of `redone evaluate`, and evaluations of a recipe's stages."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from megatron_redone.common.errors import DataError
from megatron_redone.common.jsonl import read_jsonl
from megatron_redone.evaluation.results import PREDICTIONS, RESULTS, SCORES, read_item_scores, read_results
from megatron_redone.reporting.schema import EvaluationResult, Prediction, read_result, validate_result

STAGE = "stage"
"""Name of the benchmark that a recipe's held-out rows are."""
GENERAL_CAPABILITY = "general"


@dataclass(frozen=True)
class Item:
    """One scored answer.

    Attributes:
        value: 0..1.
        parsed: whether it could be read.
        statistics: what the task's metric sums up.
        gold: the gold answer, where the file tells it: items of one name and different gold answers differ.
    """

    value: float
    parsed: bool
    statistics: Mapping[str, float]
    gold: str | None = None


@dataclass(frozen=True)
class Evaluation:
    """One model on one benchmark.

    Attributes:
        benchmark: its name; `stage: SPLIT` for held-out rows of a recipe.
        tasks: by task the items by their name in it.
        reported: by task the score in 0..100 that results.json tells.
        groups: by task what it is a part of.
        settings: how the answers came about, flat: `generation.temperature` -> "0.0".
    """

    folder: Path
    benchmark: str
    tasks: Mapping[str, Mapping[str, Item]]
    reported: Mapping[str, float]
    groups: Mapping[str, str]
    settings: Mapping[str, str]

    @property
    def is_stage(self) -> bool:
        """Whether its tasks are those of the catalogue."""
        return self.benchmark.startswith(f"{STAGE}: ")


@dataclass(frozen=True)
class EvaluatedRun:
    """What one model got on one or more benchmarks."""

    name: str
    evaluations: Mapping[str, Evaluation]
    """By benchmark."""


def read_runs(folders: Sequence[Path]) -> list[EvaluatedRun]:
    """Reads every run, and names it by its folder.

    A run is a folder with `results.json`, one with `evaluation/results.json` (a stage of a recipe), or one whose
    folders are such: several benchmarks of one model.

    Raises:
        DataError: nothing there, a broken file, or a benchmark that stands twice.
    """
    names = _names(folders)
    return [EvaluatedRun(name, _evaluations(folder)) for name, folder in zip(names, folders, strict=True)]


def _names(folders: Sequence[Path]) -> list[str]:
    """The last parts of the paths, as many as it takes to tell them apart."""
    parts = [folder.resolve().parts for folder in folders]
    for length in range(1, max(map(len, parts)) + 1):
        names = ["/".join(of_folder[-length:]) for of_folder in parts]
        if len(set(names)) == len(names):
            return names
    raise DataError(f"the same folder stands twice among {', '.join(map(str, folders))}; give each run once")


def _evaluations(folder: Path) -> dict[str, Evaluation]:
    candidates = [folder, folder / "evaluation"]
    found = [path for path in candidates if (path / RESULTS).is_file()]
    if not found:
        inside = sorted(path for path in folder.glob("*") if path.is_dir())
        found = [path for path in inside if (path / RESULTS).is_file()]
    if not found:
        raise DataError(
            f"{folder}: no {RESULTS} there, nor in evaluation/ or another folder in it; "
            "give the --out folder of `redone evaluate`, or a stage's folder of a run"
        )
    evaluations: dict[str, Evaluation] = {}
    for path in found:
        one = _evaluation(path)
        if one.benchmark in evaluations:
            raise DataError(
                f"{path} and {evaluations[one.benchmark].folder} are both results on {one.benchmark}; give one run each"
            )
        evaluations[one.benchmark] = one
    return evaluations


def _evaluation(folder: Path) -> Evaluation:
    if (folder / SCORES).is_file():
        return _of_benchmark(folder)
    if (folder / PREDICTIONS).is_file():
        return _of_stage(folder)
    raise DataError(f"{folder}: neither {SCORES} nor {PREDICTIONS} beside {RESULTS}; run the evaluation again")


def _of_benchmark(folder: Path) -> Evaluation:
    result = read_results(folder)
    tasks: dict[str, dict[str, Item]] = {name: {} for name in result.tasks}
    for line in read_item_scores(folder):
        if line.task not in tasks:
            raise DataError(
                f"{folder / SCORES}: the task {line.task!r} is not in {RESULTS}; run `redone evaluate` again"
            )
        name = str(line.index)
        if name in tasks[line.task]:
            raise DataError(f"{folder / SCORES}: {line.task} has the row {name} twice; run `redone evaluate` again")
        tasks[line.task][name] = Item(line.value, line.parsed, line.statistics)
    return Evaluation(
        folder=folder,
        benchmark=result.benchmark,
        tasks=tasks,
        reported={name: _reported(values, folder, name) for name, values in result.tasks.items()},
        groups={name: str(values.get("group", name)) for name, values in result.tasks.items()},
        settings=_flat(result.settings),
    )


def _reported(values: Mapping[str, Any], folder: Path, task: str) -> float:
    score = values.get("score")
    if not isinstance(score, int | float) or isinstance(score, bool):
        raise DataError(f"{folder / RESULTS}: tasks.{task}.score={score!r} is no number; run `redone evaluate` again")
    return float(score)


def _of_stage(folder: Path) -> Evaluation:
    result = read_result(folder / RESULTS, EvaluationResult)
    tasks: dict[str, dict[str, Item]] = {task.task: {} for task in result.tasks}
    path = folder / PREDICTIONS
    for number, value in read_jsonl(path):
        line = validate_result(value, Prediction, f"{path}:{number}")
        if line.task not in tasks or line.id in tasks[line.task]:
            reason = f"the row {line.id!r} stands twice" if line.task in tasks else f"{line.task!r} is not in {RESULTS}"
            raise DataError(f"{path}:{number}: {reason}; run the stage again")
        gold = hashlib.sha256(line.target.encode("utf-8", "surrogatepass")).hexdigest()
        tasks[line.task][line.id] = Item(line.value, line.parsed, line.statistics, gold)
    return Evaluation(
        folder=folder,
        benchmark=f"{STAGE}: {result.split}",
        tasks=tasks,
        reported={task.task: task.score for task in result.tasks},
        groups={task.task: task.capability for task in result.tasks},
        settings=_flat(result.settings),
    )


def _flat(value: object, name: str = "") -> dict[str, str]:
    """Nested settings by dotted names, their values as JSON."""
    if not isinstance(value, dict):
        return {name: json.dumps(value, ensure_ascii=False, sort_keys=True)}
    found: dict[str, str] = {}
    for key, member in value.items():
        found |= _flat(member, f"{name}.{key}" if name else str(key))
    return found
