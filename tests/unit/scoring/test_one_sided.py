from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, strategies as st

from megatron_redone.common.seeding import numpy_rng
from megatron_redone.scoring.one_sided import (
    aggregate_below_target,
    below_reference,
    below_target,
    betting_p_value,
    drawn_below_reference,
)
from megatron_redone.scoring.paired import Numbers, paired_draws

shares = st.floats(0, 1)


def mean_of_sums(sums: Numbers) -> Numbers:
    return np.asarray(sums[:, 0] / sums[:, 1])


def columns(values: list[float]) -> Numbers:
    return np.array([[value, 1.0] for value in values])


@pytest.mark.parametrize(("right", "rows", "target"), [(0, 5, 0.6), (3, 8, 0.6), (40, 100, 0.5), (7, 7, 1.0)])
def test_zero_one_scores_have_the_binomial_tail(right: int, rows: int, target: float) -> None:
    tail = sum(math.comb(rows, k) * target**k * (1 - target) ** (rows - k) for k in range(right + 1))
    assert below_target([1.0] * right + [0.0] * (rows - right), target) == pytest.approx(tail)


@given(st.lists(shares, min_size=1, max_size=30), shares, shares)
def test_a_higher_target_is_missed_the_surer(values: list[float], one: float, other: float) -> None:
    low, high = sorted([one, other])
    assert 0.0 <= below_target(values, high) <= below_target(values, low) + 1e-9 <= 1.0 + 1e-9


@given(st.lists(shares, min_size=1, max_size=20), st.floats(0.01, 0.99), st.randoms())
def test_the_order_of_the_items_does_not_matter(values: list[float], target: float, random: object) -> None:
    shuffled = sorted(values)
    assert betting_p_value(values, target) == pytest.approx(betting_p_value(shuffled, target))


@pytest.mark.parametrize("spread", ["two values", "uniform", "skewed"])
@pytest.mark.parametrize("rows", [5, 20, 100])
def test_the_betting_p_value_is_seldom_small_when_the_mean_reaches_the_target(spread: str, rows: int) -> None:
    generator = numpy_rng("betting", spread, rows)
    draws = {
        "two values": generator.choice([0.2, 0.8], size=(500, rows)),
        "uniform": generator.uniform(0, 1, size=(500, rows)),
        "skewed": generator.beta(0.2, 0.2, size=(500, rows)),
    }[spread]
    p_values = np.array([betting_p_value(row, 0.5) for row in draws])
    for level in (0.05, 0.01):  # at most `level` of them may be below; three standard errors are allowed
        assert (p_values <= level).mean() <= level + 3 * math.sqrt(level * (1 - level) / 500)


def test_small_spread_makes_it_sure_with_few_rows() -> None:
    values = list(numpy_rng("narrow").normal(0.45, 0.05, 40).clip(0, 1))
    assert betting_p_value(values, 0.6) < 1e-4
    assert betting_p_value(values, 0.44) > 0.05


def test_many_rows_are_taken_in_parts_to_the_same_end() -> None:
    values = numpy_rng("many").uniform(0, 1, 25_000)
    assert betting_p_value(values, 0.52) < 1e-4 < 0.01 < betting_p_value(values, 0.49)


def test_few_equal_answers_are_not_sure_though_their_bootstrap_has_no_spread() -> None:
    values = [0.0] * 4
    p_value = aggregate_below_target(columns(values), mean_of_sums, values, 0.5, 0, 2000)
    assert p_value == pytest.approx(0.5**4)


def test_a_score_that_is_no_mean_is_judged_by_its_own_resamples() -> None:
    statistics = np.array([[1.0, 10.0]] * 30 + [[1.0, 1.0]] * 30)  # ratio of sums 0.18, item ratios 0.55 on average
    values = [0.1] * 30 + [1.0] * 30
    assert aggregate_below_target(statistics, mean_of_sums, values, 0.8, 0, 2000) < 0.01
    assert aggregate_below_target(statistics, mean_of_sums, values, 0.15, 0, 2000) > 0.5


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=20))
def test_mcnemar_counts_the_items_that_differ(pairs: list[tuple[bool, bool]]) -> None:
    own, other = [float(a) for a, _ in pairs], [float(b) for _, b in pairs]
    won, lost = sum(a > b for a, b in pairs), sum(a < b for a, b in pairs)
    n = won + lost
    tail = sum(math.comb(n, k) for k in range(won + 1)) / 2**n
    assert below_reference(own, other) == pytest.approx(tail)


def test_graded_pairs_need_draws() -> None:
    assert below_reference([0.5, 1.0], [1.0, 1.0]) is None
    reference = list(numpy_rng("pairs").uniform(0.4, 1.0, 60))
    worse = [value - 0.2 for value in reference]
    down = paired_draws(columns(reference), columns(worse), mean_of_sums, 0, 2000)
    up = paired_draws(columns(worse), columns(reference), mean_of_sums, 0, 2000)
    assert drawn_below_reference(down) < 0.001 and drawn_below_reference(up) > 0.99


def test_bad_values_are_refused() -> None:
    with pytest.raises(ValueError, match="a test of no values"):
        below_target([], 0.5)
    with pytest.raises(ValueError, match=r"item scores lie in 0\.\.1"):
        below_target([0.5, math.nan], 0.5)
    with pytest.raises(ValueError, match="2 values against 1"):
        below_reference([0.0, 1.0], [1.0])
    assert below_target([0.0] * 9, 0.0) == 1.0
