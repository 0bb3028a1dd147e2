"""Simulated users: the models find the parameters that made the clicks, and weigh other rankings rightly."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from megatron_redone.common.errors import DataError
from megatron_redone.common.seeding import numpy_rng
from megatron_redone.evaluation.online.click_log import ClickLog, LoggedPage, click_log
from megatron_redone.evaluation.online.click_models import (
    CascadeModel,
    PositionModel,
    fit_cascade_model,
    fit_place_rates,
    fit_position_model,
    perplexities,
)
from megatron_redone.evaluation.online.off_policy import (
    effective_pages,
    importance_weights,
    page_values,
    self_normalised,
    self_normalised_columns,
)
from megatron_redone.evaluation.online.search import SearchSettings, evaluate_search

QUERIES, NOTES, PLACES = 4, 5, 4
EXAMINATION = np.array([1.0, 0.6, 0.4, 0.25])
Numbers = npt.NDArray[np.float64]


def attractions(seed: object) -> Numbers:
    return numpy_rng("attraction", seed).uniform(0.1, 0.9, size=(QUERIES, NOTES))


def pages(how: str, count: int, attraction: Numbers, seed: object, satisfaction: float = 0.6) -> list[LoggedPage]:
    """Users of a model on pages in random order."""
    draw = numpy_rng("pages", seed)
    found = []
    for number in range(count):
        query = int(draw.integers(QUERIES))
        shown = draw.permutation(NOTES)[:PLACES]
        clicked = set()
        for place, note in enumerate(shown):
            if how == "position":
                looks = draw.random() < EXAMINATION[place]
                if looks and draw.random() < attraction[query, note]:
                    clicked.add(f"n{note}")
            elif draw.random() < attraction[query, note]:
                clicked.add(f"n{note}")
                if draw.random() < satisfaction:
                    break
        found.append(LoggedPage(f"s{number}", f"q{query}", [f"n{note}" for note in shown], frozenset(clicked)))
    return found


def by_pair(log: ClickLog, values: Numbers) -> Numbers:
    return np.array(
        [[values[log.pair_numbers[f"q{query}", f"n{note}"]] for note in range(NOTES)] for query in range(QUERIES)]
    )


def test_em_recovers_the_position_model() -> None:
    truth = attractions(0)
    log = click_log(pages("position", 12_000, truth, 0))
    model = fit_position_model(log, prior_strength=0.0)
    np.testing.assert_allclose(model.examination, EXAMINATION, atol=0.05)
    np.testing.assert_allclose(by_pair(log, model.attraction), truth, atol=0.08)


@pytest.mark.parametrize("strength", [0.0, 2.0, 20.0])
def test_em_never_loses(strength: float) -> None:
    log = click_log(pages("position", 300, attractions(1), 1))
    trace = np.array(fit_position_model(log, strength, max_iterations=60).trace)
    assert len(trace) > 3
    assert (np.diff(trace) >= -1e-9 * np.abs(trace[1:])).all()


def test_em_recovers_the_cascade_model() -> None:
    truth = attractions(2)
    log = click_log(pages("cascade", 8_000, truth, 2, satisfaction=0.6))
    model = fit_cascade_model(log, prior_strength=0.0)
    np.testing.assert_allclose(by_pair(log, model.attraction), truth, atol=0.08)
    assert abs((by_pair(log, model.attraction) - truth).mean()) < 0.01
    assert by_pair(log, model.satisfaction).mean() == pytest.approx(0.6, abs=0.03)


@pytest.mark.parametrize("how", ["position", "cascade"])
def test_the_model_of_the_users_foretells_best(how: str) -> None:
    log = click_log(pages(how, 5_000, attractions(3), 3))
    train, held_out = log.split(0.2, 0)
    baseline, position, cascade = (
        fit_place_rates(train),
        fit_position_model(train),
        fit_cascade_model(train),
    )
    own, other = (position, cascade) if how == "position" else (cascade, position)
    assert perplexities(own, held_out).mean() < perplexities(baseline, held_out).mean()
    assert own.log_likelihoods(held_out).mean() > other.log_likelihoods(held_out).mean()
    assert (perplexities(own, held_out) >= 1).all() and (perplexities(own, held_out) < 2).all()


def test_probabilities_of_a_page_add_up() -> None:
    """Over all sets of clicks on a page of three the likelihoods of both models sum to 1, and give their rates."""
    shown = ["a", "b", "c"]
    every = [
        LoggedPage(str(bits), "q", shown, frozenset(note for place, note in enumerate(shown) if bits >> place & 1))
        for bits in range(8)
    ]
    log = click_log(every)
    attraction, satisfaction = np.array([0.3, 0.6, 0.8, 0.5]), np.array([0.2, 0.7, 0.4, 0.5])
    for model in (PositionModel(np.array([1.0, 0.5, 0.3]), attraction), CascadeModel(attraction, satisfaction)):
        likelihood = np.exp(model.log_likelihoods(log))
        assert likelihood.sum() == pytest.approx(1.0)
        np.testing.assert_allclose(likelihood @ log.clicked, model.click_probabilities(log.pair)[0])
        assert 1 - likelihood[0] == pytest.approx(model.page_rates(log.pair)[0])


def test_a_pair_that_was_never_seen_has_the_mean() -> None:
    log = click_log([*pages("position", 200, attractions(4), 4), LoggedPage("new", "q9", ["n9"], frozenset())])
    train = log.part(np.arange(len(log)) < 200)
    number = log.pair_numbers["q9", "n9"]
    for values in (fit_position_model(train).attraction, fit_cascade_model(train).attraction):
        assert values[number] == pytest.approx(values[-1])
        assert values[:-1].min() < values[-1] < values[:-1].max()


def true_clicks(truth: Numbers, rankings: dict[str, list[str]]) -> float:
    """Expected clicks on a page of the rankings, queries alike often."""
    totals = [
        sum(EXAMINATION[place] * truth[int(query[1:]), int(note[1:])] for place, note in enumerate(notes))
        for query, notes in rankings.items()
    ]
    return float(np.mean(totals))


def best_first(truth: Numbers) -> dict[str, list[str]]:
    return {f"q{query}": [f"n{note}" for note in np.argsort(-truth[query])[:PLACES]] for query in range(QUERIES)}


def test_importance_weights_and_the_model_give_the_true_value_of_other_rankings() -> None:
    truth = attractions(5)
    log = click_log(pages("position", 6_000, truth, 5))
    rankings = best_first(truth)
    value = true_clicks(truth, rankings)
    assert value > log.clicked.sum(axis=1).mean() + 0.2  # far from what was logged
    result = evaluate_search(log, rankings, ["q1", "q1", "nobody asked"], SearchSettings(clip=50.0))
    estimates = {one.estimator: one for one in result.estimates if one.name == "rankings"}
    for name in ("position-based", "IPS, item-position", "IPS, position-based", "SNIPS, item-position"):
        assert estimates[name].clicks.value == pytest.approx(value, abs=0.1), name
        low, high = estimates[name].clicks.interval
        assert low <= estimates[name].clicks.value <= high
    assert estimates["IPS, item-position"].support == 1.0
    widths = {name: one.clicks.interval[1] - one.clicks.interval[0] for name, one in estimates.items()}
    assert widths["IPS, position-based"] < widths["IPS, item-position"]
    assert result.coverage == {
        "rankings": 4, "rankings_of_logged_queries": 4, "queries": 3, "logged_queries": 2,
    }  # fmt: skip
    offered = [one for one in result.estimates if one.name == "offered queries"]
    of_query = log.query == log.query_numbers["q1"]
    assert offered[0].clicks.value == pytest.approx(log.clicked[of_query].sum(axis=1).mean(), abs=0.1)


def test_weights_of_the_logged_order_are_those_of_the_log() -> None:
    """One ranking always: its propensities are 1, and every estimator gives the logged clicks."""
    shown = ["n0", "n1", "n2"]
    log = click_log(LoggedPage(f"s{n}", "q", shown, frozenset(shown[: n % 3])) for n in range(30))
    weights = importance_weights(log, {"q": shown}, np.array([1.0, 0.5, 0.3]), 10.0)
    np.testing.assert_allclose(weights.item_position, 1.0)
    np.testing.assert_allclose(weights.position_based, 1.0)
    assert page_values(weights.item_position, weights.clicked).mean() == log.clicked.sum(axis=1).mean()
    assert (weights.support, weights.support_anywhere) == (1.0, 1.0)
    assert effective_pages(weights.item_position) == pytest.approx(30)


def test_clipping_bounds_the_weights_and_the_self_normalised_form_mends_its_bias() -> None:
    truth = attractions(6)
    log = click_log(pages("position", 3_000, truth, 6))
    rankings = best_first(truth)
    free, clipped = (importance_weights(log, rankings, EXAMINATION, clip) for clip in (100.0, 2.0))
    assert free.item_position.max() > 4 and clipped.item_position.max() == 2.0
    values = [page_values(one.item_position, one.clicked).mean() for one in (free, clipped)]
    assert values[1] < 0.6 * values[0]

    def snips(weights: object) -> float:
        one = clipped if weights is clipped else free
        columns = self_normalised_columns(one.item_position, one.clicked, one.pages_of_place)
        return float(self_normalised(columns.sum(axis=0, keepdims=True), one.pages_of_place)[0])

    assert snips(clipped) == pytest.approx(snips(free), abs=0.02)


def test_what_the_logs_never_showed_has_no_support() -> None:
    log = click_log(LoggedPage(f"s{n}", "q", ["a", "b"], frozenset({"a"})) for n in range(10))
    weights = importance_weights(log, {"q": ["new", "a"], "other": ["a"]}, np.array([1.0, 0.5]), 10.0)
    assert (weights.support, weights.support_anywhere) == (0.0, 0.5)
    assert page_values(weights.item_position, weights.clicked).sum() == 0
    assert page_values(weights.position_based, weights.clicked).mean() == pytest.approx(0.5)  # seen half as often
    with pytest.raises(DataError, match="no ranking belongs to a query of the logs"):
        importance_weights(log, {"other": ["a"]}, np.array([1.0, 0.5]), 10.0)


def test_pages_of_unequal_length_and_without_clicks_are_read() -> None:
    log = click_log([
        LoggedPage("a", "q", ["x"], frozenset()),
        LoggedPage("b", "q", ["x", "y", "z"], frozenset({"z"})),
    ])  # fmt: skip
    assert log.pair.shape == (2, 3) and log.shown.sum() == 4
    for model in (fit_place_rates(log), fit_position_model(log), fit_cascade_model(log)):
        assert np.isfinite(model.log_likelihoods(log)).all()
        assert (model.click_probabilities(log.pair)[0, 1:] == 0).all()
    with pytest.raises(DataError, match="the logs have no pages"):
        click_log([])
    with pytest.raises(DataError, match="2 pages cannot be divided"):
        log.split(0.0001, 0)
