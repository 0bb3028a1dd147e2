from __future__ import annotations

from itertools import permutations

import pytest
from hypothesis import given, strategies as st

from megatron_redone.scoring.ranking import PairwiseOrder

ORDERS = st.permutations(["A", "B", "C", "D"])


@given(ORDERS, ORDERS)
def test_a_ranking_and_its_reverse_share_the_pairs(prediction: list[str], gold: list[str]) -> None:
    forwards, backwards, exact = PairwiseOrder().score([prediction, prediction[::-1], gold], [gold] * 3)
    assert forwards.value + backwards.value == pytest.approx(1.0)
    assert exact.value == 1.0


def test_a_random_ranking_earns_half_on_average() -> None:
    orders = [list(order) for order in permutations("ABCD")]
    scores = PairwiseOrder().score(orders, [list("ABCD")] * len(orders))
    assert PairwiseOrder().aggregate(scores) == pytest.approx(0.5)


def test_one_swap_costs_its_pairs_and_missing_members_miss_theirs() -> None:
    swapped, partial, unreadable, single, wrong = PairwiseOrder().score(
        [["B", "A", "C"], ["A", "B"], None, ["A"], ["B"]],
        [["A", "B", "C"], ["A", "B", "C"], ["A", "B", "C"], ["A"], ["A"]],
    )
    assert swapped.value == pytest.approx(2 / 3)
    assert partial.value == pytest.approx(1 / 3)
    assert (unreadable.value, unreadable.parsed) == (0.0, False)
    assert (single.value, wrong.value) == (1.0, 0.0)
    assert PairwiseOrder().aggregate([swapped, unreadable]) == pytest.approx(2 / 6)
