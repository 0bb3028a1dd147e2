"""The targeted set: rows of the weak bucket, stratified by capability (RedOne 2.0, stage 2).

The paper up-weights "rare but important" cases and does not say how. Here every row has a weight, the product of
factors that are told with it:

- its own weight (`Row.weight`), by which a data set marks what is important;
- its task's weight in the bucket file, by which a person does;
- rarity: (rows of the commonest answer / rows of its answer) ** rarity_power, at most max_rarity, among the training
  rows of its task, where an answer is one of a few. It only raises. Power 0.5 is between the natural
  distribution (0) and equal shares (1).
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from megatron_redone.common.errors import DataError
from megatron_redone.common.jsonl import write_jsonl
from megatron_redone.common.seeding import rng
from megatron_redone.curation.config import RowWeightsConfig
from megatron_redone.tasks.base import Row
from megatron_redone.tasks.catalogue import get_task

WEIGHTS = "weights.jsonl"
"""A line for each row of the bucket that was chosen: id, task, capability, weight and its reason."""


@dataclass(frozen=True)
class WeightedRow:
    """A row with its sampling weight, and how the weight comes about."""

    row: Row
    weight: float
    reason: str


def weighted_rows(
    config: RowWeightsConfig, rows: Sequence[Row], task_weights: Mapping[str, float]
) -> list[WeightedRow]:
    """The rows of the bucket's tasks with their weights.

    Args:
        task_weights: of the bucket, by task; rows of other tasks are left out.
    """
    by_task: dict[str, list[Row]] = {}
    for row in rows:
        if row.task in task_weights:
            by_task.setdefault(row.task, []).append(row)
    found = []
    for members in by_task.values():
        answers = Counter(_answer(row) for row in members)
        common = max(answers.values())
        repeats = len(answers) <= config.max_answer_share * len(members)
        for row in members:
            count = answers[_answer(row)]
            rarity = min((common / count) ** config.rarity_power, config.max_rarity) if repeats else 1.0
            parts = [("own weight", row.weight), (f"answer in {count} of {len(members)} rows", rarity)]
            told = [f"{name}: {value:.3g}" for name, value in parts if not math.isclose(value, 1.0)]
            found.append(WeightedRow(row, row.weight * rarity, "; ".join(told) or "1"))
    return found


def _answer(row: Row) -> str:
    return json.dumps(row.answer, ensure_ascii=False, sort_keys=True)


def weak_rows(
    rows: Iterable[WeightedRow], task_weights: Mapping[str, float], num_rows: int, seed: int
) -> list[WeightedRow]:
    """Up to `num_rows` rows of the weak tasks: every capability an equal share, inside it every task its weight's.

    A share that its tasks cannot fill goes to the others. Inside a task rows are drawn without repeats, those with a
    higher weight sooner (Efraimidis and Spirakis 2006: order by u ** (1 / weight)).

    Raises:
        DataError: no training row of any weak task.
    """
    queues: dict[str, dict[str, list[WeightedRow]]] = {}
    by_task: dict[str, list[WeightedRow]] = {}
    for one in rows:
        by_task.setdefault(one.row.task, []).append(one)
    for name in sorted(task_weights):
        members = by_task.get(name, [])
        if members:  # the next one stands last
            members.sort(key=lambda one: rng(seed, "target", one.row.id).random() ** (1.0 / one.weight))
            queues.setdefault(get_task(name).capability, {})[name] = members
    if not queues:
        raise DataError(
            f"no training row of the weak tasks {', '.join(sorted(task_weights)) or '(none)'}; the training file must "
            "hold rows of every diagnosed task"
        )
    chosen: list[WeightedRow] = []
    taken: Counter[str] = Counter()
    while queues and len(chosen) < num_rows:
        for capability in list(queues):
            tasks = queues[capability]
            name = min(tasks, key=lambda task: (taken[task] / task_weights[task], task))
            chosen.append(tasks[name].pop())
            taken[name] += 1
            if not tasks[name]:
                del tasks[name]
            if not tasks:
                del queues[capability]
            if len(chosen) == num_rows:
                break
    return chosen


def write_weights(path: Path, chosen: Sequence[WeightedRow], task_weights: Mapping[str, float]) -> None:
    """Why each chosen row had the weight it had."""
    write_jsonl(
        path,
        (
            {
                "id": one.row.id,
                "task": one.row.task,
                "capability": get_task(one.row.task).capability,
                "weight": round(one.weight, 6),
                "task_weight": task_weights[one.row.task],
                "reason": one.reason,
            }
            for one in chosen
        ),
    )
