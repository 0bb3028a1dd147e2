from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, strategies as st

from megatron_redone.common.errors import DataError
from megatron_redone.curation.target import weak_rows
from megatron_redone.tasks.base import Row
from megatron_redone.tasks.catalogue import get_task

TASKS = ("note_security", "gender_sensitive_appeal", "query_note_relevance", "hashtag_single")


def rows(counts: dict[str, int], weight: float = 1.0) -> list[Row]:
    return [Row(f"{task}-{i}", task, "en", {}, "", weight=weight) for task, n in counts.items() for i in range(n)]


counts_of_tasks = st.fixed_dictionaries({task: st.integers(0, 12) for task in TASKS})


@given(counts_of_tasks, st.sets(st.sampled_from(TASKS), min_size=1), st.integers(1, 40), st.integers(0, 5))
def test_only_weak_tasks_without_repeats_in_equal_shares(
    counts: dict[str, int], weak: set[str], wanted: int, seed: int
) -> None:
    present = {task: counts[task] for task in weak if counts[task]}
    if not present:
        with pytest.raises(DataError, match="no training row of the weak tasks"):
            weak_rows(rows(counts), sorted(weak), wanted, seed)
        return
    chosen = weak_rows(rows(counts), sorted(weak), wanted, seed)
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
    chosen = [row.id for row in weak_rows(found, TASKS, 20, 1)]
    assert chosen == [row.id for row in weak_rows(found[::-1], TASKS[::-1], 20, 1)]
    assert set(chosen) != {row.id for row in weak_rows(found, TASKS, 20, 2)}


def test_heavier_rows_come_sooner() -> None:
    found = [Row(f"r{i}", "note_security", "en", {}, "", weight=50.0 if i < 10 else 0.1) for i in range(100)]
    first = {row.id for row in weak_rows(found, ["note_security"], 10, 0)}
    assert len(first & {f"r{i}" for i in range(10)}) >= 9
