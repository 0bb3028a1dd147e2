from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from megatron_redone.common.seeding import rng
from megatron_redone.scoring.statistics import cohen_kappa, kappa_interval

LABELS = st.sampled_from(["a", "b", "tie"])
RATINGS = st.lists(st.tuples(LABELS, LABELS), min_size=1, max_size=40)


@given(RATINGS)
def test_kappa_is_that_of_scikit_learn(ratings: list[tuple[str, str]]) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    first, second = [list(labels) for labels in zip(*ratings, strict=True)]
    if len({*first, *second}) == 1:
        assert cohen_kappa(first, second) == 0.0  # scikit-learn: nan, with a warning
    else:
        assert cohen_kappa(first, second) == pytest.approx(metrics.cohen_kappa_score(first, second), abs=1e-12)


def test_kappa_of_known_tables() -> None:
    # 20 + 15 equal of 50, chance 0.5: (0.7 - 0.5) / 0.5
    first = ["yes"] * 25 + ["no"] * 25
    second = ["yes"] * 20 + ["no"] * 5 + ["yes"] * 10 + ["no"] * 15
    assert cohen_kappa(first, second) == pytest.approx(0.4)
    assert cohen_kappa(["a", "b"], ["a", "b"]) == 1.0
    assert cohen_kappa(["a", "b"], ["b", "a"]) == -1.0


def test_the_interval_holds_kappa_is_seeded_and_shrinks_with_more_items() -> None:
    random = rng("kappa")
    first = [random.choice("ab") for _ in range(400)]
    second = [label if random.random() < 0.8 else random.choice("ab") for label in first]
    low, high = kappa_interval(first, second, 0)
    assert low < cohen_kappa(first, second) < high and high - low < 0.2
    assert (low, high) == kappa_interval(first, second, 0) != kappa_interval(first, second, 1)
    few = kappa_interval(first[:40], second[:40], 0)
    assert few[1] - few[0] > 1.5 * (high - low)


def test_the_interval_covers_the_true_kappa_about_as_often_as_it_says() -> None:
    random, hits = rng("coverage of kappa"), 0
    for trial in range(200):
        first = [random.choice("ab") for _ in range(100)]
        second = [label if random.random() < 0.8 else {"a": "b", "b": "a"}[label] for label in first]
        low, high = kappa_interval(first, second, trial, num_resamples=300)
        hits += low <= 0.6 <= high
    assert 0.88 <= hits / 200 <= 0.99


@pytest.mark.parametrize(("first", "second"), [(["a"], []), ([], [])])
def test_kappa_needs_the_same_items(first: list[str], second: list[str]) -> None:
    with pytest.raises(ValueError, match="same items"):
        cohen_kappa(first, second)
