"""Source 1: the right option over a wrong one of the same question (RedOne, section 3.3.1).

The paper takes the pairs from the order inside questions with right and wrong options. A wrong answer here differs
from the right one in one place: another option instead of a right one, two letters of a ranking changed, an item left
out where every option is right. The task's own formatter writes it, its parser must read it, and its scorer must give
it less than full marks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from megatron_redone.common.seeding import rng
from megatron_redone.curation.pairs.config import OptionOrderConfig
from megatron_redone.curation.pairs.pair import Pair
from megatron_redone.tasks.base import Row, Task
from megatron_redone.tasks.catalogue import get_task


@dataclass(frozen=True)
class WrongAnswer:
    """An answer that differs from the right one in one place."""

    answer: Any
    """As the task's formatter takes it."""
    change: str
    """`a -> b`, with an empty side for an item left out or added."""
    distance: int
    """Places between the two options in their list."""


def option_pairs(config: OptionOrderConfig, rows: Sequence[Row], seed: int) -> Iterator[Pair]:
    """Pairs of the rows whose tasks have options, in the order of the rows.

    Both answers stand without a thought, and the prompt asks for none: a rationale leads to the right answer only.
    """
    for row in rows:
        task = get_task(row.task)
        if task.options is None or (config.tasks and row.task not in config.tasks):
            continue
        chosen = task.answer_text(row)
        for number, (wrong, text, score) in enumerate(_acceptable(task, row, config.choice, seed)):
            if number == config.pairs_per_row:
                break
            yield Pair(
                messages=task.render(replace(row, rationale=None)),
                chosen=chosen,
                rejected=text,
                how="option_order",
                source=row.source,
                row=row.id,
                task=row.task,
                language=row.language,
                chosen_reward=1.0,
                rejected_reward=score,
                detail={"choice": config.choice, "change": wrong.change, "distance": wrong.distance},
                origin=row,
            )


def _acceptable(task: Task, row: Row, choice: str, seed: int) -> Iterator[tuple[WrongAnswer, str, float]]:
    """Wrong answers with their text and score, first those to take first, no text twice."""
    wrong = wrong_answers(task, row)
    rng(seed, "option order", row.id).shuffle(wrong)
    if choice == "nearest":
        wrong.sort(key=lambda candidate: candidate.distance)
    seen: set[str] = set()
    for candidate in wrong:
        text = task.formatter(candidate.answer, row)
        score = task.score([text], [row])[0]
        if text not in seen and score.parsed and score.value < 1.0:
            seen.add(text)
            yield candidate, text, score.value


def wrong_answers(task: Task, row: Row) -> list[WrongAnswer]:
    """Every answer that is one change of an option away from the right one; the task must have options.

    None where an answer is neither an option nor a list of options, but something made of them.
    """
    assert task.options is not None
    slots, gold = task.options(row), task.gold(row)
    if not isinstance(gold, str | int | list) or (isinstance(gold, list) and not all(isinstance(i, str) for i in gold)):
        return []
    if not isinstance(gold, list):
        return [
            WrongAnswer(type(gold)(option), f"{gold} -> {option}", distance)
            for option, distance in _others(slots[0], str(gold), [str(gold)])
        ]
    slotted = len(slots) > 1
    own = list(zip(slots, [[item] for item in gold], strict=True)) if slotted else [(slots[0], gold)] * len(gold)
    replaced = [
        WrongAnswer([*gold[:place], option, *gold[place + 1 :]], f"{item} -> {option}", distance)
        for place, (item, (options, right)) in enumerate(zip(gold, own, strict=True))
        for option, distance in _others(options, item, right)
    ]
    if replaced:
        return replaced
    if not gold:
        return [WrongAnswer([option], f" -> {option}", 0) for option in dict.fromkeys(slots[0])]
    swapped = [
        WrongAnswer(_swapped(gold, i, j), f"{gold[i]} <-> {gold[j]}", j - i)
        for i in range(len(gold))
        for j in range(i + 1, len(gold))
    ]
    left_out = [
        WrongAnswer([*gold[:place], *gold[place + 1 :]], f"{item} -> ", 0)
        for place, item in enumerate(gold)
        if len(gold) > 1 or task.allow_empty_answer
    ]
    return [*swapped, *left_out]


def _others(options: Sequence[str], item: str, right: Sequence[str]) -> list[tuple[str, int]]:
    """The options that are not right, each once, with how far they stand from `item` (0 where it is no option)."""
    places = {option: place for place, option in reversed(list(enumerate(options)))}
    here = places.get(item)
    return [
        (option, 0 if here is None else abs(place - here))
        for option, place in sorted(places.items(), key=lambda entry: entry[1])
        if option not in right
    ]


def _swapped(items: Sequence[str], i: int, j: int) -> list[str]:
    changed = list(items)
    changed[i], changed[j] = changed[j], changed[i]
    return changed
