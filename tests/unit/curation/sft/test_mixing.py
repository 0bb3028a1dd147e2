from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, strategies as st

from megatron_redone.common.errors import DataError
from megatron_redone.common.seeding import derive_seed
from megatron_redone.curation.conversations import balanced
from megatron_redone.curation.sft.config import REDONE_SCHEDULE, MixConfig
from megatron_redone.curation.sft.mixing import GENERAL, SNS, Choice, allocate, choose
from megatron_redone.curation.sft.pool import COLUMNS, Pool, Stratum
from megatron_redone.tasks.row import Row

Counts = dict[tuple[str, str, str, str], int]


def pool_of(counts: Counts, seed: int = 0, weights: dict[str, float] | None = None) -> Pool:
    """A pool without text: so many rows of each (part, capability, task, language); ids are task-language-number."""
    strata = [Stratum(*names) for names in counts]
    ids = [f"{s.task}-{s.language}-{n}" for s in strata for n in range(counts[s])]
    columns = {name: np.zeros(len(ids), dtype=code) for name, code in COLUMNS.items()}
    columns["stratum"] = np.repeat(np.arange(len(strata)), list(counts.values()))
    columns["key"] = np.array([derive_seed(seed, "choose", one) for one in ids], dtype=np.int64)
    columns["weight"] = np.array([(weights or {}).get(one, 1.0) for one in ids])
    return Pool(strata, ["s"], columns, np.ones(len(ids), dtype=bool), [Path("none")])


def rows_by_task(choice: Choice) -> dict[str, int]:
    return {task.task: task.rows for task in choice.tasks}


amounts = st.lists(st.tuples(st.floats(0.01, 100), st.integers(0, 50), st.integers(0, 5)), min_size=1, max_size=8)


@given(groups=amounts, total=st.integers(0, 200))
def test_quotas_add_up_within_their_bounds_and_follow_the_weights(
    groups: list[tuple[float, int, int]], total: int
) -> None:
    weights, capacities, floors = (list(column) for column in zip(*groups, strict=True))
    low = [min(floor, capacity) for floor, capacity in zip(floors, capacities, strict=True)]
    if sum(low) > min(total, sum(capacities)):
        with pytest.raises(DataError, match="lower min_rows_per_task or raise num_rows"):
            allocate(total, weights, capacities, floors)
        return
    quotas = allocate(total, weights, capacities, floors)
    assert sum(quotas) == min(total, sum(capacities))
    assert all(a <= quota <= b for a, quota, b in zip(low, quotas, capacities, strict=True))
    free = [n for n, quota in enumerate(quotas) if low[n] < quota < capacities[n]]
    levels = [(quotas[n] - 1) / weights[n] for n in free], [(quotas[n] + 1) / weights[n] for n in free]
    assert not free or max(levels[0]) <= min(levels[1]) + 1e-6  # one water level fits all within one row


def test_a_group_of_weight_zero_gets_its_floor_only() -> None:
    assert allocate(10, [1.0, 0.0], [4, 100], [0, 2]) == [4, 2]
    assert allocate(3, [1.0, 1.0], [0, 0]) == [0, 0]


def test_square_root_weights_and_a_floor_keep_the_tail_visible() -> None:
    counts: Counts = {(SNS, "c", "big", "en"): 10_000, (SNS, "c", "middle", "en"): 900, (SNS, "c", "tail", "en"): 9}
    natural = rows_by_task(choose(pool_of(counts), MixConfig(num_rows=300, task_balance=1.0)))
    assert natural["tail"] == 0
    root = choose(pool_of(counts), MixConfig(num_rows=266, task_balance=0.5))
    assert rows_by_task(root) == {"big": 200, "middle": 60, "tail": 6}  # 100 : 30 : 3
    assert [task.asked for task in root.tasks] == pytest.approx([100 / 133, 30 / 133, 3 / 133])
    even = rows_by_task(choose(pool_of(counts), MixConfig(num_rows=300, task_balance=0.0)))
    assert even["tail"] == 9 and even["big"] in (145, 146) and sum(even.values()) == 300
    floor = choose(pool_of(counts), MixConfig(num_rows=300, task_balance=1.0, min_rows_per_task=20))
    assert rows_by_task(floor)["tail"] == 9 and rows_by_task(floor)["middle"] == 24
    assert {task.task: task.bound for task in floor.tasks}["tail"] == "all rows"
    lifted = choose(pool_of(counts), MixConfig(num_rows=300, task_balance=1.0, min_rows_per_task=40))
    assert {task.task: task.bound for task in lifted.tasks}["middle"] == "floor"


@given(share=st.floats(0, 0.95), num_rows=st.integers(20, 400))
def test_the_general_share_is_reached_within_one_row(share: float, num_rows: int) -> None:
    pool = pool_of({(SNS, "c", "t", "en"): 500, (GENERAL, "g", "u", "en"): 300, (GENERAL, "g", "v", "en"): 200})
    choice = choose(pool, MixConfig(num_rows=num_rows, general_share=share))
    general = sum(task.rows for task in choice.tasks if task.part == GENERAL)
    assert int(choice.copies.sum()) == num_rows
    assert abs(general - share * num_rows) <= 0.5 + 1e-9


def test_the_two_steps_of_redone() -> None:
    pool = pool_of({(SNS, "a", "t", "en"): 60, (SNS, "b", "u", "zh"): 40, (GENERAL, "g", "v", "en"): 400})
    first, second = (choose(pool, mix) for mix in REDONE_SCHEDULE)
    for choice, num_general in ((first, 100), (second, 25)):
        of_part = Counter({task.part: 0 for task in choice.tasks})
        for task in choice.tasks:
            of_part[task.part] += task.rows
        assert of_part == {SNS: 100, GENERAL: num_general}  # all SNS rows in both
    assert np.all(first.copies >= second.copies)  # the second step's general rows are among the first's


def test_shares_by_capability_and_factors_by_task() -> None:
    counts: Counts = {
        (SNS, "a", "t", "en"): 400, (SNS, "b", "u", "en"): 400, (SNS, "b", "v", "en"): 400, (SNS, "c", "w", "en"): 400,
    }  # fmt: skip
    mix = MixConfig(num_rows=200, capability_shares={"a": 0.1, "b": 0.6}, task_weights={"u": 2.0})
    assert rows_by_task(choose(pool_of(counts), mix)) == {"t": 20, "u": 80, "v": 40, "w": 60}
    with pytest.raises(DataError, match="capability_shares: 'd' has no rows"):
        choose(pool_of(counts), MixConfig(num_rows=10, capability_shares={"d": 0.1}))
    with pytest.raises(DataError, match="task_weights: 'tt' has no rows in the inputs; did you mean 't'"):
        choose(pool_of(counts), MixConfig(task_weights={"tt": 0.1}))


rows_made = st.lists(st.tuples(st.sampled_from("tu"), st.sampled_from(["en", "ja", "zh"])), min_size=1, max_size=40)


@given(made=rows_made, per_task=st.integers(1, 12), seed=st.integers(0, 3))
def test_a_bound_a_task_takes_the_rows_that_taking_turns_takes(
    made: list[tuple[str, str]], per_task: int, seed: int
) -> None:
    counts = {(SNS, "c", task, language): n for (task, language), n in sorted(Counter(made).items())}
    ids = [f"{task}-{language}-{n}" for (_, _, task, language), count in counts.items() for n in range(count)]
    rows = [Row(one, one[0], one.split("-")[1], {}, "") for one in ids]
    choice = choose(pool_of(counts, seed), MixConfig(rows_per_task=per_task))
    taken = {ids[place] for place in np.flatnonzero(choice.copies)}
    assert taken == {row.id for row in balanced(rows, per_task, seed)}


def test_rows_repeat_at_most_so_often_and_all_once_before_any_twice() -> None:
    counts: Counts = {(SNS, "c", "t", "en"): 10, (GENERAL, "g", "u", "en"): 10}
    choice = choose(pool_of(counts), MixConfig(num_rows=50, general_share=0.5, max_repeats=2))
    assert sorted(choice.copies) == [2] * 20
    choice = choose(pool_of(counts), MixConfig(num_rows=26, general_share=0.5, max_repeats=2))
    assert sorted(choice.copies[:10]) == [1] * 7 + [2] * 3
    everything = choose(pool_of(counts), MixConfig(general_share=0.5, max_repeats=3))
    assert sorted(everything.copies[:10]) == [1] * 10  # without num_rows every SNS row once


def test_row_weights_draw_rows_and_tasks_in_proportion() -> None:
    counts: Counts = {(SNS, "c", "t", "en"): 2000}
    heavy = {f"t-en-{n}": 4.0 for n in range(1000)}
    choice = choose(pool_of(counts, weights=heavy), MixConfig(num_rows=400))
    share = choice.copies[:1000].sum() / 400
    assert 0.72 < share < 0.86  # near 0.8
    two: Counts = {(SNS, "c", "t", "en"): 100, (SNS, "c", "u", "en"): 100}
    tripled = {f"t-en-{n}": 3.0 for n in range(100)}
    mix = MixConfig(num_rows=100, task_balance=1.0)
    assert rows_by_task(choose(pool_of(two, weights=tripled), mix)) == {"t": 75, "u": 25}


def test_an_empty_set_is_refused() -> None:
    with pytest.raises(DataError, match="the set would have no row"):
        choose(pool_of({(GENERAL, "g", "u", "en"): 3}), MixConfig(general_rows=0))
