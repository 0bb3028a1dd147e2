from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from megatron_redone.common.errors import DataError
from megatron_redone.curation.config import RowWeightsConfig
from megatron_redone.curation.target import WEIGHTS, WeightedRow, weak_rows, weighted_rows, write_weights
from megatron_redone.tasks.base import Row
from megatron_redone.tasks.catalogue import get_task

TASKS = ("note_security", "gender_sensitive_appeal", "query_note_relevance", "hashtag_single")


def rows(counts: dict[str, int], weight: float = 1.0) -> list[WeightedRow]:
    return [
        WeightedRow(Row(f"{task}-{i}", task, "en", {}, "", weight=weight), weight, "")
        for task, n in counts.items()
        for i in range(n)
    ]


def bucket(*tasks: str) -> dict[str, float]:
    return dict.fromkeys(tasks, 1.0)


counts_of_tasks = st.fixed_dictionaries({task: st.integers(0, 12) for task in TASKS})


@given(counts_of_tasks, st.sets(st.sampled_from(TASKS), min_size=1), st.integers(1, 40), st.integers(0, 5))
def test_only_weak_tasks_without_repeats_in_equal_shares(
    counts: dict[str, int], weak: set[str], wanted: int, seed: int
) -> None:
    present = {task: counts[task] for task in weak if counts[task]}
    if not present:
        with pytest.raises(DataError, match="no training row of the weak tasks"):
            weak_rows(rows(counts), bucket(*weak), wanted, seed)
        return
    chosen = [one.row for one in weak_rows(rows(counts), bucket(*weak), wanted, seed)]
    assert len(chosen) == min(wanted, sum(present.values()))
    assert len({row.id for row in chosen}) == len(chosen) and {row.task for row in chosen} <= weak
    taken = Counter(row.task for row in chosen)
    share = Counter[str]()
    room: dict[str, int] = {}
    for task, count in present.items():
        capability = get_task(task).capability
        share[capability] += taken[task]
        room[capability] = room.get(capability, 0) + count - taken[task]
        for other, others in present.items():
            if get_task(other).capability == capability and taken[task] < count and taken[other] < others:
                assert abs(taken[task] - taken[other]) <= 1
    for first in room:
        for second in room:
            if room[first] and room[second]:
                assert abs(share[first] - share[second]) <= 1


def test_the_choice_is_the_seeds_not_the_files_order() -> None:
    found = rows(dict.fromkeys(TASKS, 12))
    chosen = [one.row.id for one in weak_rows(found, bucket(*TASKS), 20, 1)]
    assert chosen == [one.row.id for one in weak_rows(found[::-1], bucket(*TASKS[::-1]), 20, 1)]
    assert set(chosen) != {one.row.id for one in weak_rows(found, bucket(*TASKS), 20, 2)}


def test_heavier_rows_come_sooner() -> None:
    found = [*rows({"note_security": 100}, 0.1), *rows({"hashtag_single": 0})]
    heavy = [WeightedRow(Row(f"heavy{i}", "note_security", "en", {}, ""), 50.0, "") for i in range(10)]
    first = {one.row.id for one in weak_rows([*found, *heavy], bucket("note_security"), 10, 0)}
    assert len(first & {f"heavy{i}" for i in range(10)}) >= 9


def test_a_task_that_a_person_gave_three_times_the_weight_gets_three_times_the_rows() -> None:
    tasks = ("note_security", "gender_sensitive_appeal")
    if get_task(tasks[0]).capability != get_task(tasks[1]).capability:
        tasks = ("hashtag_single", "hashtag_multiple")
    chosen = weak_rows(rows(dict.fromkeys(tasks, 100)), {tasks[0]: 3.0, tasks[1]: 1.0}, 80, 0)
    assert Counter(one.row.task for one in chosen) == {tasks[0]: 60, tasks[1]: 20}


def answered(answers: list[str]) -> list[Row]:
    return [Row(f"r{i}", "note_security", "en", {}, answer) for i, answer in enumerate(answers)]


@pytest.mark.parametrize(("power", "rare"), [(0.0, 1.0), (0.5, 3.0), (1.0, 4.0)])
def test_rare_answers_weigh_more_up_to_a_limit_and_say_why(power: float, rare: float) -> None:
    found = weighted_rows(
        RowWeightsConfig(rarity_power=power), answered(["normal"] * 90 + ["spam"] * 10), bucket("note_security")
    )
    assert {one.weight for one in found if one.row.answer == "normal"} == {1.0}
    assert [one.weight for one in found if one.row.answer == "spam"] == pytest.approx([rare] * 10)
    assert (
        found[-1].reason == ("1" if power == 0 else f"answer in 10 of 100 rows: {rare:.3g}") and found[0].reason == "1"
    )


def test_where_nearly_every_answer_differs_none_is_rare() -> None:
    found = weighted_rows(
        RowWeightsConfig(), answered([f"a{i}" for i in range(50)] + ["same"] * 5), bucket("note_security")
    )
    assert {one.weight for one in found} == {1.0}


def test_what_a_data_set_marks_as_important_counts_and_other_tasks_are_left_out(tmp_path: Path) -> None:
    important = Row("x", "note_security", "en", {}, "spam", weight=5.0)
    other = Row("y", "hashtag_single", "en", {}, "spam")
    found = weighted_rows(RowWeightsConfig(), [important, other], bucket("note_security"))
    assert [(one.row.id, one.weight, one.reason) for one in found] == [("x", 5.0, "own weight: 5")]
    write_weights(tmp_path / WEIGHTS, found, {"note_security": 2.0})
    (line,) = [json.loads(text) for text in (tmp_path / WEIGHTS).read_text().splitlines()]
    assert line == {
        "id": "x", "task": "note_security", "capability": get_task("note_security").capability, "weight": 5.0,
        "task_weight": 2.0, "reason": "own weight: 5",
    }  # fmt: skip


def test_rare_answers_are_a_larger_part_of_the_set_than_of_the_pool() -> None:
    pool = answered(["normal"] * 360 + ["spam"] * 40)
    shares = {}
    for power in (0.0, 0.5):
        weighted = weighted_rows(RowWeightsConfig(rarity_power=power), pool, bucket("note_security"))
        chosen = weak_rows(weighted, bucket("note_security"), 100, 0)
        shares[power] = sum(one.row.answer == "spam" for one in chosen) / 100
    assert 0.04 <= shares[0.0] <= 0.17 < shares[0.5] <= 0.4
