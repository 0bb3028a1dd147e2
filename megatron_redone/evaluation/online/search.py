"""Post-view search by logs: click models, what rankings and queries are worth under them, and by importance weighting.

RedOne (section 4.6, table 6) reports the rise of the click page rate of post-view search, the queries offered below a
note. Click page rate here: the share of result pages on which something is clicked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from megatron_redone.common.seeding import derive_seed
from megatron_redone.evaluation.online.click_log import NONE, ClickLog, Pairs
from megatron_redone.evaluation.online.click_models import (
    CascadeModel,
    ClickModel,
    PlaceRates,
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
from megatron_redone.reporting.online_schema import FittedModel, Measured, SearchResult, ValueEstimate
from megatron_redone.scoring.statistics import bootstrap_sums

Numbers = npt.NDArray[np.float64]
NUM_RESAMPLES = 1000


@dataclass(frozen=True)
class SearchSettings:
    """How logs are evaluated.

    Attributes:
        held_out_share: share of the sessions that the models are measured on and not fitted to.
        prior_strength: impressions that the prior of an attraction counts as.
        clip: largest importance weight.
    """

    held_out_share: float = 0.2
    prior_strength: float = 2.0
    clip: float = 20.0
    seed: int = 0


def evaluate_search(
    log: ClickLog,
    rankings: Mapping[str, Sequence[str]],
    queries: Sequence[str],
    settings: SearchSettings,
) -> SearchResult:
    """Fits and measures the click models; estimates the worth of the logged pages, of rankings and of queries.

    The models are measured on held-out sessions, and fitted to all of them for the estimates.

    Args:
        rankings: by query the notes from the top; may be empty.
        queries: such as a model would offer below a note, each as often as it is offered; may be empty.

    Raises:
        DataError: too few sessions, or no ranking belongs to a logged query.
    """
    train, held_out = log.split(settings.held_out_share, settings.seed)
    models = (
        fit_place_rates(train),
        fit_position_model(train, settings.prior_strength),
        fit_cascade_model(train, settings.prior_strength),
    )
    known_pairs = np.unique(train.pair)
    position_model = fit_position_model(log, settings.prior_strength)
    cascade_model = fit_cascade_model(log, settings.prior_strength)
    fitted: tuple[ClickModel, ...] = (position_model, cascade_model)
    known_queries = [query for query in queries if query in log.query_numbers]
    known_rankings = {query: notes for query, notes in rankings.items() if query in log.query_numbers}
    estimates = [_by_model("logged pages", model, log.pair, log.query, settings) for model in fitted]
    estimates.insert(0, _as_logged(log, settings))
    if rankings:
        estimates += _of_rankings(log, rankings, position_model, fitted, settings)
    if known_queries:
        estimates += [_of_queries(log, known_queries, model, settings) for model in fitted]
    return SearchResult(
        sessions=len(set(log.sessions)),
        pages=len(log),
        held_out_pages=len(held_out),
        clicks=int(log.clicked.sum()),
        click_page_rate=float(log.clicked.any(axis=1).mean()),
        unseen_share=float((~np.isin(held_out.pair[held_out.shown], known_pairs)).mean()),
        click_rate_by_place=tuple(float(rate) for rate in _raw_rates(log)),
        models=tuple(_measured_model(model, held_out) for model in models),
        estimates=tuple(estimates),
        coverage={
            "rankings": len(rankings),
            "rankings_of_logged_queries": len(known_rankings),
            "queries": len(queries),
            "logged_queries": len(known_queries),
        },
        settings={
            "held_out_share": settings.held_out_share,
            "prior_strength": settings.prior_strength,
            "clip": settings.clip,
            "seed": settings.seed,
        },
    )


def _raw_rates(log: ClickLog) -> Numbers:
    return np.asarray(log.clicked.sum(axis=0) / np.maximum(log.shown.sum(axis=0), 1))


def _measured_model(model: ClickModel, held_out: ClickLog) -> FittedModel:
    by_place = perplexities(model, held_out)
    parameters: dict[str, Any] = {}
    if isinstance(model, PositionModel):
        parameters = {"examination": [float(value) for value in model.examination], "iterations": len(model.trace)}
    elif isinstance(model, PlaceRates):
        parameters = {"rates": [float(value) for value in model.rates]}
    elif isinstance(model, CascadeModel):
        parameters = {"mean_satisfaction": float(model.satisfaction[-1])}
    return FittedModel(
        name=model.name,
        perplexity=float(by_place.mean()),
        perplexity_by_place=tuple(float(value) for value in by_place),
        log_likelihood=float(model.log_likelihoods(held_out).mean()),
        parameters=parameters,
    )


def _as_logged(log: ClickLog, settings: SearchSettings) -> ValueEstimate:
    return ValueEstimate(
        name="logged pages",
        estimator="as logged",
        clicks=_mean(np.asarray(log.clicked.sum(axis=1), dtype=np.float64), settings),
        click_page_rate=_mean(np.asarray(log.clicked.any(axis=1), dtype=np.float64), settings),
    )


def _by_model(name: str, model: ClickModel, pairs: Pairs, queries: Pairs, settings: SearchSettings) -> ValueEstimate:
    """Means over pages. The interval is that of the drawing of queries; the model is taken as it is."""
    return ValueEstimate(
        name=name,
        estimator=model.name,
        clicks=_mean(model.click_probabilities(pairs).sum(axis=1), settings, queries),
        click_page_rate=_mean(model.page_rates(pairs), settings, queries),
    )


def _of_rankings(
    log: ClickLog,
    rankings: Mapping[str, Sequence[str]],
    position_model: PositionModel,
    fitted: Sequence[ClickModel],
    settings: SearchSettings,
) -> list[ValueEstimate]:
    """The rankings, each query as often as it was searched, and beside them the logged pages of the same queries."""
    width = log.pair.shape[1]
    weights = importance_weights(log, rankings, position_model.examination, settings.clip)
    names = {number: query for query, number in log.query_numbers.items()}
    of_page = [rankings.get(names[number]) for number in log.query.tolist()]
    chosen = np.array([notes is not None for notes in of_page])
    rows = [
        [log.pair_numbers.get((names[number], note), len(log.pair_numbers)) for note in notes[:width]]
        for number, notes in zip(log.query.tolist(), of_page, strict=True)
        if notes is not None
    ]
    pairs = np.array([row + [NONE] * (width - len(row)) for row in rows], np.int64)
    queries = log.query[chosen]
    same = log.part(chosen)
    found = [_as_logged(same, settings).model_copy(update={"name": "logged pages of the queries"})]
    for model in fitted:
        found.append(_by_model("rankings", model, pairs, queries, settings))
    for name, of_name, support in (
        ("IPS, item-position", weights.item_position, weights.support),
        ("IPS, position-based", weights.position_based, weights.support_anywhere),
    ):
        found.append(
            ValueEstimate(
                name="rankings",
                estimator=name,
                clicks=_mean(page_values(of_name, weights.clicked), settings),
                effective_pages=effective_pages(of_name),
                support=support,
            )
        )
    columns = self_normalised_columns(weights.item_position, weights.clicked, weights.pages_of_place)
    draws = self_normalised(
        bootstrap_sums(columns, derive_seed(settings.seed, "snips"), NUM_RESAMPLES), weights.pages_of_place
    )
    value = float(self_normalised(columns.sum(axis=0, keepdims=True), weights.pages_of_place)[0])
    found.append(
        ValueEstimate(
            name="rankings",
            estimator="SNIPS, item-position",
            clicks=_measured(value, draws),
            effective_pages=effective_pages(weights.item_position),
            support=weights.support,
        )
    )
    return found


def _of_queries(log: ClickLog, queries: Sequence[str], model: ClickModel, settings: SearchSettings) -> ValueEstimate:
    """Queries that a model offers: each is worth the mean of its logged pages under the click model."""
    clicks, rates = model.click_probabilities(log.pair).sum(axis=1), model.page_rates(log.pair)
    count = np.bincount(log.query)
    of_query = [np.asarray(np.bincount(log.query, values) / np.maximum(count, 1)) for values in (clicks, rates)]
    numbers = np.array([log.query_numbers[query] for query in queries])
    return ValueEstimate(
        name="offered queries",
        estimator=model.name,
        clicks=_mean(of_query[0][numbers], settings, numbers),
        click_page_rate=_mean(of_query[1][numbers], settings, numbers),
    )


def _mean(values: Numbers, settings: SearchSettings, queries: Pairs | None = None) -> Measured:
    """The mean with its bootstrap interval over pages; with `queries` over these, all pages of one together."""
    columns = np.column_stack([values, np.ones(len(values))])
    if queries is not None:
        _, groups = np.unique(queries, return_inverse=True)
        columns = np.column_stack([np.bincount(groups, column) for column in columns.T])
    sums = bootstrap_sums(columns, derive_seed(settings.seed, "online"), NUM_RESAMPLES)
    return _measured(float(values.mean()), sums[:, 0] / sums[:, 1])


def _measured(value: float, draws: Numbers) -> Measured:
    low, high = np.quantile(draws, [0.025, 0.975])
    return Measured(value=value, interval=(min(float(low), value), max(float(high), value)))
