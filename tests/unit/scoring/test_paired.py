"""The paired tests keep their error rates, see what is there, and agree with other implementations."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from scipy.stats import false_discovery_control

from megatron_redone.common.seeding import numpy_rng
from megatron_redone.scoring.paired import Numbers, benjamini_hochberg, mean_draws, paired_draws


def mean(sums: Numbers) -> Numbers:
    return np.asarray(sums[:, 0] / sums[:, 1])


def column(values: object) -> Numbers:
    numbers = np.asarray(values, dtype=np.float64)
    return np.column_stack([numbers, np.ones(len(numbers))])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=60))
def test_benjamini_hochberg_agrees_with_scipy(p_values: list[float]) -> None:
    np.testing.assert_allclose(benjamini_hochberg(p_values), false_discovery_control(p_values))


def test_benjamini_hochberg_on_the_example_of_its_paper() -> None:
    """Table 1 of Benjamini and Hochberg 1995: at 0.05 the four smallest are called."""
    p_values = [0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459, 0.3240, 0.4262, 0.5719,
                0.6528, 0.7590, 1.0000]  # fmt: skip
    assert sum(q <= 0.05 for q in benjamini_hochberg(p_values)) == 4
    assert benjamini_hochberg([]) == []
    with pytest.raises(ValueError, match=r"each must be in 0\.\.1"):
        benjamini_hochberg([0.5, 1.5])


def test_no_difference_is_seldom_called_one() -> None:
    """Under no difference p is below 0.05 in about 5 of 100 trials: here of 300, few items among them."""
    calls = 0
    for trial in range(300):
        draw = numpy_rng("null", trial)
        count = int(draw.integers(8, 80))
        hard = draw.random(count)
        first, second = ((draw.random(count) < hard).astype(float) for _ in range(2))
        calls += paired_draws(column(first), column(second), mean, trial, 400).p_value() <= 0.05
    assert calls <= 300 * 0.05 + 2 * (300 * 0.05 * 0.95) ** 0.5


def test_few_items_that_differ_prove_nothing() -> None:
    """Five items of 200 got better: the bootstrap alone would call it, the exact sign test (p = 2 / 2^5) would not."""
    first = np.zeros(200)
    second = first.copy()
    second[:5] = 1.0
    draws = paired_draws(column(first), column(second), mean, 0, 4000)
    assert draws.p_value() == pytest.approx(2 / 2**5, abs=0.015)


def test_a_real_difference_is_found_and_measured() -> None:
    draw = numpy_rng("real")
    hard = draw.random(400)
    first, second = (draw.random(400) < 0.8 * hard).astype(float), (draw.random(400) < 0.8 * hard + 0.2).astype(float)
    draws = paired_draws(column(first), column(second), mean, 0, 2000)
    low, high = draws.interval()
    assert draws.difference == pytest.approx(second.mean() - first.mean())
    assert 0.08 < low < draws.difference < high < 0.32
    assert draws.p_value() == pytest.approx(2 / 2001)


def test_pairing_narrows_the_interval_of_items_that_are_hard_for_both() -> None:
    draw = numpy_rng("pairs")
    hard = (draw.random(300) < 0.5).astype(float)
    better = np.maximum(hard, draw.random(300) < 0.05)
    apart = draw.permutation(better)
    widths = []
    for second in (better, apart):
        low, high = paired_draws(column(hard), column(second), mean, 0, 2000).interval()
        widths.append(high - low)
    assert widths[0] < 0.5 * widths[1]


@settings(max_examples=20)
@given(st.integers(0, 10**6))
def test_exchanging_the_runs_turns_the_signs(seed: int) -> None:
    draw = numpy_rng(seed, "turn")
    first, second = column(draw.random(30)), column(draw.random(30))
    there = paired_draws(first, second, mean, seed, 200)
    back = paired_draws(second, first, mean, seed, 200)
    assert there.difference == pytest.approx(-back.difference)
    assert there.interval() == pytest.approx(tuple(-border for border in reversed(back.interval())))
    assert there.p_value() == pytest.approx(back.p_value(), abs=0.02)


def test_equal_runs_have_no_difference() -> None:
    same = column(numpy_rng("same").random(40))
    draws = paired_draws(same, same, mean, 0, 200)
    assert (draws.difference, draws.interval(), draws.p_value()) == (0.0, (0.0, 0.0), 1.0)


def test_a_ratio_of_sums_is_resampled_as_a_ratio_of_sums() -> None:
    """Micro-F1 against the direct way: draw items, add up, divide."""
    draw = numpy_rng("ratio")
    hits, sizes = draw.integers(0, 4, 50), draw.integers(4, 9, 50)
    statistics = np.column_stack([hits, sizes]).astype(float)
    better = statistics + np.column_stack([np.ones(50), np.zeros(50)])
    draws = paired_draws(statistics, better, mean, 3, 500)
    assert draws.first[0] == pytest.approx(hits.sum() / sizes.sum())
    direct = numpy_rng(3, "bootstrap").integers(0, 50, size=(500, 50), dtype=np.int64)
    np.testing.assert_allclose(draws.first[1:], hits[direct].sum(axis=1) / sizes[direct].sum(axis=1))
    np.testing.assert_allclose(draws.second[1:], (hits[direct] + 1).sum(axis=1) / sizes[direct].sum(axis=1))


def test_the_mean_of_tasks_is_the_mean_draw_by_draw() -> None:
    parts = [
        paired_draws(column(numpy_rng(task, 1).random(20)), column(numpy_rng(task, 2).random(20)), mean, task, 100)
        for task in range(3)
    ]
    together = mean_draws(parts)
    assert together.difference == pytest.approx(np.mean([part.difference for part in parts]))
    widths = [high - low for low, high in (part.interval() for part in parts)]
    low, high = together.interval()
    assert high - low < max(widths)
    with pytest.raises(ValueError, match="the mean of no scores"):
        mean_draws([])


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\(2, 2\) against \(3, 2\); both need the same items"):
        paired_draws(column([0, 1]), column([0, 1, 1]), mean, 0)
    with pytest.raises(ValueError, match="no items to compare"):
        paired_draws(column([]), column([]), mean, 0)
