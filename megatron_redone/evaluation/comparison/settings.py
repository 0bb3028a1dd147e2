"""What must be equal before two evaluations can be compared."""

from __future__ import annotations

from collections.abc import Sequence

from megatron_redone.evaluation.comparison.reading import Evaluation
from megatron_redone.reporting.comparison_schema import NotComparable

FREE = (
    "answering",
    "batch_size",
    "counts",
    "engine",
    "limit",  # what it leaves out is told by the items
    "max_sequences",
    "model_positions",
    "num_resamples",
    "over_long_prompts",
    "predictions_sha256",
    "seed",
)
"""Settings that may differ: they name the model's side, or say nothing about what was asked and how it was scored."""
GENERATION = "generation"
SHOWN_CHARACTERS = 60


def differences(first: Evaluation, second: Evaluation) -> tuple[list[NotComparable], list[str]]:
    """(why tasks or the whole benchmark cannot be compared, notes).

    A setting whose last part is the name of a task (`data.Note-NER.json`) belongs to that task alone. Answers that
    came as a file bring no settings of generation; that is noted.
    """
    found, notes = [], []
    with_generation = [one for one in (first, second) if any(_parts(name)[0] == GENERATION for name in one.settings)]
    if len(with_generation) == 1:
        notes.append(
            f"{first.benchmark}: how the answers of one run were generated is not known (they came as a file)."
        )
    tasks = set(first.tasks) | set(second.tasks)
    for name in sorted(set(first.settings) | set(second.settings)):
        parts = _parts(name)
        if set(parts) & set(FREE) or (parts[0] == GENERATION and len(with_generation) == 1):
            continue
        task = next((task for task in tasks if name.endswith(f".{task}")), "")
        if task and not (task in first.tasks and task in second.tasks):
            continue  # told as a task that one run lacks
        old, new = (one.settings.get(name, "not given") for one in (first, second))
        if old != new:
            reason = f"{name.removesuffix(f'.{task}') if task else name} differs: {_short(old)} against {_short(new)}"
            found.append(NotComparable(benchmark=first.benchmark, task=task, reason=reason))
    return found, notes


def missing_tasks(first: Evaluation, second: Evaluation) -> list[NotComparable]:
    """Tasks that one of the two has alone."""
    found = []
    for task in sorted(set(first.tasks) ^ set(second.tasks)):
        lacking: Sequence[Evaluation] = [one for one in (first, second) if task not in one.tasks]
        found.append(
            NotComparable(benchmark=first.benchmark, task=task, reason=f"{lacking[0].folder} has no such task")
        )
    return found


def _parts(name: str) -> list[str]:
    return name.split(".")


def _short(text: str) -> str:
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}..."
