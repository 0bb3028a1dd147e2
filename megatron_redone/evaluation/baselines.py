"""Answers without a model, to set beside one: the gold answers, nothing, all options, the most frequent answer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from megatron_redone.common.seeding import derive_seed
from megatron_redone.evaluation.benchmark import BenchmarkTask, Row

GOLD, EMPTY, OPTIONS, MAJORITY = "gold answers", "always empty", "copy options", "majority"
MEANINGS = {
    GOLD: "what the gold answers themselves reach: the ceiling",
    EMPTY: 'the shortest answer that says "nothing" in the asked format',
    OPTIONS: "all options of the row, copied; where a task has none, the empty answer",
    MAJORITY: "the most frequent gold answer of other rows than those it is scored on (five parts by hash)",
}
NUM_FOLDS = 5


def baseline_outputs(task: BenchmarkTask, rows: Sequence[Row], num_scored: int) -> dict[str, list[str]]:
    """By baseline its answers to the first `num_scored` rows of a file."""
    scored = rows[:num_scored]
    copy = task.options_text or (lambda row: task.empty_text)
    return {
        GOLD: [task.gold_text(row) for row in scored],
        EMPTY: [task.empty_text] * len(scored),
        OPTIONS: [copy(row) for row in scored],
        MAJORITY: majority_outputs(task, rows)[:num_scored],
    }


def majority_outputs(task: BenchmarkTask, rows: Sequence[Row]) -> list[str]:
    """For each row the most frequent gold answer of the other parts of the file; ties go by the alphabet."""
    golds = [task.gold_text(row) for row in rows]
    folds = [derive_seed("majority", task.file, index) % NUM_FOLDS for index in range(len(rows))]
    answers = []
    for fold in range(NUM_FOLDS):
        counts = Counter(gold for gold, of in zip(golds, folds, strict=True) if of != fold)
        answers.append(min(counts, key=lambda gold: (-counts[gold], gold)) if counts else task.empty_text)
    return [answers[fold] for fold in folds]
