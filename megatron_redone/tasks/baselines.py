"""Baselines that need no model: the empty answer, the majority answer and all options copied.

The majority is counted on rows other than those it is scored on; the caller chooses them.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from megatron_redone.scoring.set_f1 import SetF1
from megatron_redone.tasks.base import Row, Task

Positions = tuple[tuple[int, int], ...]  # (slot, index in the slot's options) of each item of a gold answer


@dataclass(frozen=True)
class MajorityAnswer:
    """The most frequent gold answer of some rows, ready to answer others; built by `majority_answer`.

    Attributes:
        texts: gold texts by language, most frequent first; used where a language's options never vary.
        positions: positions of gold options by language, most frequent first; used where options vary.
    """

    task: Task
    texts: dict[str, tuple[str, ...]]
    positions: dict[str, tuple[Positions, ...]]

    def __call__(self, row: Row) -> str:
        """The most frequent answer that fits the row, else the empty prediction."""
        for positions in self.positions.get(row.language, ()):
            text = _text_at(self.task, row, positions)
            if text is not None:
                return text
        for text in self.texts.get(row.language, ()):
            if self.task.parse(text, row) is not None:
                return text
        return empty_prediction(self.task, row)


def empty_prediction(task: Task, row: Row) -> str:
    """The answer that says nothing: `[]` for list literals, "" elsewhere."""
    return task.empty_text


def copy_options(task: Task, row: Row) -> str | None:
    """All options of the row as the answer, where the answer is a set of options; None elsewhere."""
    if task.options is None or not isinstance(task.scorer, SetF1):
        return None
    options = list(dict.fromkeys(task.options(row)[0]))
    return task.formatter(options, row) if options else empty_prediction(task, row)


def majority_answer(task: Task, rows: Sequence[Row]) -> MajorityAnswer:
    """The most frequent gold text by language; its position where the rows have different options.

    Options in another order are not different ones.
    Ties go to the smaller text or position, so the order of the rows does not matter.
    """
    by_language: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        by_language[row.language].append(row)
    texts: dict[str, tuple[str, ...]] = {}
    positions: dict[str, tuple[Positions, ...]] = {}
    for language, members in by_language.items():
        if len({_choices(task, row) for row in members}) > 1:
            ranked = Counter(_positions(task, row) for row in members)
            positions[language] = tuple(sorted(ranked, key=lambda key: (-ranked[key], key)))
        else:
            counts = Counter(task.answer_text(row) for row in members)
            texts[language] = tuple(sorted(counts, key=lambda key: (-counts[key], key)))
    return MajorityAnswer(task, texts, positions)


def _choices(task: Task, row: Row) -> tuple[tuple[str, ...], ...]:
    """The row's options slot by slot, without their order; nothing for a task without options."""
    return tuple(tuple(sorted(options)) for options in task.options(row)) if task.options else ()


def _positions(task: Task, row: Row) -> Positions:
    assert task.options is not None
    slots, gold = task.options(row), task.gold(row)
    items = [str(item) for item in gold] if isinstance(gold, list) else [str(gold)]
    places = [(slot if len(slots) > 1 else 0, item) for slot, item in enumerate(items)]
    found = [(slot, slots[slot].index(item)) for slot, item in places if item in slots[slot]]
    return tuple(sorted(found) if isinstance(task.scorer, SetF1) else found)


def _text_at(task: Task, row: Row, positions: Positions) -> str | None:
    assert task.options is not None
    slots = task.options(row)
    if any(index >= len(slots[slot]) for slot, index in positions):
        return None
    items = [slots[slot][index] for slot, index in positions]
    if not items:
        return task.empty_text or None
    text = task.formatter(items if task.answer_kind == "texts" else items[0], row)
    return text if task.parse(text, row) is not None else None
