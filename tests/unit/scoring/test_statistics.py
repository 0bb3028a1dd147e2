from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, strategies as st

from megatron_redone.common.seeding import numpy_rng
from megatron_redone.scoring.set_f1 import SetF1
from megatron_redone.scoring.statistics import (
    bootstrap_aggregate_interval,
    bootstrap_interval,
    mean_interval,
    paired_difference_interval,
    wilson_interval,
)

VALUES = st.lists(st.floats(0.0, 1.0), min_size=1, max_size=30)


@given(VALUES, st.integers(0, 100))
def test_the_interval_is_seeded_holds_the_mean_and_stays_in_range(values: list[float], seed: int) -> None:
    low, high = bootstrap_interval(values, seed, num_resamples=50)
    assert (low, high) == bootstrap_interval(values, seed, num_resamples=50)
    assert 0.0 <= low <= np.mean(values) <= high <= 1.0


def test_another_seed_draws_otherwise_and_equal_values_have_no_width() -> None:
    values = [index / 20 for index in range(20)]
    assert bootstrap_interval(values, 1) != bootstrap_interval(values, 2)
    assert bootstrap_interval([0.3] * 7, 0) == pytest.approx((0.3, 0.3))


def test_the_bootstrap_covers_the_true_mean_as_often_as_it_says() -> None:
    generator = numpy_rng("coverage")
    hits = 0
    for trial in range(300):
        low, high = bootstrap_interval(list(generator.beta(2, 5, size=60)), trial, num_resamples=400)
        hits += low <= 2 / 7 <= high
    assert 0.90 <= hits / 300 <= 0.98


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [(0, 10, 0.0, 0.27754), (10, 10, 0.72246, 1.0), (5, 10, 0.23659, 0.76341), (1, 1, 0.20655, 1.0)],
)
def test_wilson_as_tabulated(successes: int, trials: int, low: float, high: float) -> None:
    assert wilson_interval(successes, trials) == pytest.approx((low, high), abs=1e-5)


@given(st.integers(1, 500), st.data())
def test_wilson_mirrors_and_widens(trials: int, data: st.DataObject) -> None:
    successes = data.draw(st.integers(0, trials))
    low, high = wilson_interval(successes, trials)
    mirrored = wilson_interval(trials - successes, trials)
    assert mirrored == pytest.approx((1 - high, 1 - low))
    assert 0.0 <= low <= successes / trials <= high <= 1.0
    wider = wilson_interval(successes, trials, level=0.99)
    assert wider[0] <= low
    assert wider[1] >= high


def test_mean_interval_is_wilsons_for_zeros_and_ones() -> None:
    assert mean_interval([1.0, 0.0, 1.0], 0) == wilson_interval(2, 3)
    assert mean_interval([1.0, 0.5, 1.0], 0) == bootstrap_interval([1.0, 0.5, 1.0], 0)


def test_paired_intervals_cancel_what_both_sides_share() -> None:
    generator = numpy_rng("paired")
    first = list(generator.random(40))
    second = [value + 0.1 for value in first]
    assert paired_difference_interval(first, second, 0) == pytest.approx((0.1, 0.1))
    low, high = paired_difference_interval(first, first[::-1], 0)
    assert low < 0 < high
    with pytest.raises(ValueError, match="40 values against 39"):
        paired_difference_interval(first, second[:-1], 0)


def test_aggregates_that_are_not_means_get_an_interval_too() -> None:
    scorer = SetF1()
    scores = scorer.score([["a"], ["x"], ["b", "c"]] * 5, [["a"], ["p", "q"], ["b", "d"]] * 5)
    low, high = bootstrap_aggregate_interval(scorer, scores, 0, num_resamples=200)
    assert low < scorer.aggregate(scores) < high
    assert (low, high) == bootstrap_aggregate_interval(scorer, scores, 0, num_resamples=200)


def test_errors_state_value_and_remedy() -> None:
    with pytest.raises(ValueError, match="at least one"):
        bootstrap_interval([], 0)
    with pytest.raises(ValueError, match=r"level=95 .* such as 0.95"):
        bootstrap_interval([1.0], 0, level=95)
    with pytest.raises(ValueError, match="num_resamples=0"):
        bootstrap_interval([1.0], 0, num_resamples=0)
    with pytest.raises(ValueError, match=r"4 successes of 3 trials; give a count in 0\.\.3"):
        wilson_interval(4, 3)
