"""Click models: how likely a note is clicked at a place, apart from how likely a user looks there.

Position-based model (Richardson et al. 2007; Chuklin et al. 2015, section 3.3), fitted by EM:
    P(click) = examination[place] * attraction[query, note]
Simplified dynamic Bayesian network (Chapelle and Zhang 2009, section 5), fitted by EM too: users read from the top,
click what attracts them, and stop after a click that satisfies them.
    P(click | examined) = attraction[query, note], P(stop | click) = satisfaction[query, note]
The library pyclick, the usual implementation, is unmaintained; the two models are a page of arrays here.

Most pairs of query and note are seen a few times, so each attraction has a Beta prior around the mean of all,
`prior_strength` impressions strong: EM finds the mode with it, and a pair that was never seen has the mean.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from megatron_redone.evaluation.online.click_log import NONE, ClickLog, Pairs

Numbers = npt.NDArray[np.float64]
LEAST, MOST = 1e-6, 1 - 1e-6
"""Probabilities are kept within, so that a surprise costs a finite amount."""


class ClickModel(Protocol):
    """What is needed of a click model. Pairs are numbers of (query, note) [pages, places], NONE where there is none."""

    @property
    def name(self) -> str:
        """For tables."""
        ...

    def click_probabilities(self, pairs: Pairs) -> Numbers:
        """[pages, places] before any click is seen; 0 where there is no note."""
        ...

    def log_likelihoods(self, log: ClickLog) -> Numbers:
        """[pages] log-probability of a page's clicks, in nats."""
        ...

    def page_rates(self, pairs: Pairs) -> Numbers:
        """[pages] probability of at least one click."""
        ...


@dataclass(frozen=True)
class PlaceRates:
    """The baseline: every place has its click rate, whatever stands there."""

    rates: Numbers
    name: str = "click rate by place"

    def click_probabilities(self, pairs: Pairs) -> Numbers:
        """The rate of the place."""
        return np.where(pairs == NONE, 0.0, _known(self.rates, pairs.shape[1]))

    def log_likelihoods(self, log: ClickLog) -> Numbers:
        """Places are independent."""
        return _bernoulli(self.click_probabilities(log.pair), log)

    def page_rates(self, pairs: Pairs) -> Numbers:
        """1 - the product of the places' misses."""
        return np.asarray(1 - np.prod(1 - self.click_probabilities(pairs), axis=1))


@dataclass(frozen=True)
class PositionModel:
    """Position-based model.

    Attributes:
        examination: [places] in 0..1, the largest is 1: only its ratios can be told from clicks.
        attraction: [pairs]; the last one is that of pairs that were never seen.
        trace: the objective (log-likelihood plus log prior, nats) after each iteration of EM; it never falls.
    """

    examination: Numbers
    attraction: Numbers
    trace: tuple[float, ...] = ()
    name: str = "position-based"

    def click_probabilities(self, pairs: Pairs) -> Numbers:
        """Examination times attraction."""
        return np.where(
            pairs == NONE, 0.0, _known(self.examination, pairs.shape[1]) * _of_pairs(self.attraction, pairs)
        )

    def log_likelihoods(self, log: ClickLog) -> Numbers:
        """Places are independent."""
        return _bernoulli(self.click_probabilities(log.pair), log)

    def page_rates(self, pairs: Pairs) -> Numbers:
        """1 - the product of the places' misses."""
        return np.asarray(1 - np.prod(1 - self.click_probabilities(pairs), axis=1))


@dataclass(frozen=True)
class CascadeModel:
    """Simplified dynamic Bayesian network.

    Attributes:
        attraction, satisfaction: [pairs]; the last ones are those of pairs that were never seen.
    """

    attraction: Numbers
    satisfaction: Numbers
    name: str = "cascade (sDBN)"

    def click_probabilities(self, pairs: Pairs) -> Numbers:
        """The chance to get as far, times attraction."""
        attraction, satisfaction = _of_pairs(self.attraction, pairs), _of_pairs(self.satisfaction, pairs)
        goes_on = np.where(pairs == NONE, 1.0, 1 - attraction * satisfaction)
        examined = np.cumprod(np.column_stack([np.ones(len(pairs)), goes_on[:, :-1]]), axis=1)
        return np.where(pairs == NONE, 0.0, examined * attraction)

    def log_likelihoods(self, log: ClickLog) -> Numbers:
        """By place, given the clicks above it."""
        attraction, satisfaction = _of_pairs(self.attraction, log.pair), _of_pairs(self.satisfaction, log.pair)
        examined, found = np.ones(len(log)), np.zeros(len(log))
        for place in range(log.pair.shape[1]):
            a, s = attraction[:, place], satisfaction[:, place]
            chance = np.clip(examined * a, LEAST, MOST)
            clicked, shown = log.clicked[:, place], log.shown[:, place]
            found += np.where(shown, np.where(clicked, np.log(chance), np.log(1 - chance)), 0.0)
            after = np.where(clicked, 1 - s, examined * (1 - a) / (1 - chance))
            examined = np.where(shown, after, examined)
        return found

    def page_rates(self, pairs: Pairs) -> Numbers:
        """Who clicks nothing examines all."""
        attraction = np.where(pairs == NONE, 0.0, _of_pairs(self.attraction, pairs))
        return np.asarray(1 - np.prod(1 - attraction, axis=1))


def fit_place_rates(log: ClickLog) -> PlaceRates:
    """Clicks divided by impressions of each place (with half a click and one impression more)."""
    shown = log.shown
    return PlaceRates(((log.clicked & shown).sum(axis=0) + 0.5) / (shown.sum(axis=0) + 1.0))


def fit_position_model(
    log: ClickLog, prior_strength: float = 2.0, max_iterations: int = 200, tolerance: float = 1e-7
) -> PositionModel:
    """EM from the click rates of the places, until the objective gains less than `tolerance` of itself.

    Args:
        prior_strength: impressions that the prior of an attraction counts as; 0 is maximum likelihood.
    """
    shown, num_pairs = log.shown, len(log.pair_numbers)
    pairs, clicks = log.pair[shown], log.clicked[shown].astype(np.float64)
    places = np.broadcast_to(np.arange(log.pair.shape[1]), log.pair.shape)[shown]
    num_places = log.pair.shape[1]
    rates = fit_place_rates(log).rates
    centre = float(np.clip(rates.max(), LEAST, MOST))
    examination = np.clip(rates / rates.max(), LEAST, MOST)
    attraction = np.full(num_pairs, centre)
    impressions, at_place = np.bincount(pairs, minlength=num_pairs), np.bincount(places, minlength=num_places)
    trace: list[float] = []
    for _ in range(max_iterations):
        gamma, alpha = examination[places], attraction[pairs]
        miss = 1 - gamma * alpha
        attracted = clicks + (1 - clicks) * alpha * (1 - gamma) / miss
        examined = clicks + (1 - clicks) * gamma * (1 - alpha) / miss
        total = np.bincount(pairs, attracted, num_pairs) + prior_strength * centre
        attraction = np.clip(total / np.maximum(impressions + prior_strength, LEAST), LEAST, MOST)
        examination = np.clip(np.bincount(places, examined, num_places) / np.maximum(at_place, 1), LEAST, MOST)
        trace.append(_objective(clicks, examination[places] * attraction[pairs], attraction, prior_strength, centre))
        if len(trace) > 1 and trace[-1] - trace[-2] < tolerance * abs(trace[-2]):
            break
    seen = impressions > 0
    unseen = float(np.average(attraction[seen], weights=impressions[seen]))
    scale = float(examination.max())
    attraction = np.where(seen, attraction, unseen)
    return PositionModel(examination / scale, np.clip(np.append(attraction, unseen) * scale, LEAST, MOST), tuple(trace))


def fit_cascade_model(
    log: ClickLog, prior_strength: float = 2.0, max_iterations: int = 200, tolerance: float = 1e-7
) -> CascadeModel:
    """EM over whether the last click of a page satisfied: if it did, nothing below was examined.

    Chapelle and Zhang count as if it always did; what unsatisfied users saw and left is then missing among the views,
    and attractions come out too high. Without a click the whole page was examined.
    """
    num_pairs, num_places = len(log.pair_numbers), log.pair.shape[1]
    place = np.arange(num_places)
    with_click = log.clicked.any(axis=1)
    last = np.where(with_click, num_places - 1 - np.argmax(log.clicked[:, ::-1], axis=1), num_places)
    above, below = log.shown & (place <= last[:, None]), log.shown & (place > last[:, None])
    last_pairs = log.pair[with_click, last[with_click]]
    views, clicks = (
        np.bincount(log.pair[mask], minlength=num_pairs).astype(np.float64) for mask in (above, log.clicked & log.shown)
    )
    stopped, unseen_below = np.ones(len(last_pairs)), np.zeros(len(log))
    before = -np.inf
    for _ in range(max_iterations):
        unseen_below[with_click] = stopped
        looked = np.broadcast_to(1 - unseen_below[:, None], log.pair.shape)[below]
        seen = views + np.bincount(log.pair[below], looked, num_pairs)
        attraction = _smoothed(clicks, seen, prior_strength)
        satisfied = np.bincount(last_pairs, stopped, num_pairs).astype(np.float64)
        satisfaction = _smoothed(satisfied, clicks, prior_strength)
        model = CascadeModel(attraction, satisfaction)
        now = float(model.log_likelihoods(log).sum())
        if abs(now - before) < tolerance * abs(now):
            break
        before = now
        misses = np.where(below, np.log1p(-_of_pairs(attraction, log.pair)), 0.0).sum(axis=1)
        stays = satisfaction[last_pairs]
        stopped = stays / (stays + (1 - stays) * np.exp(misses[with_click]))
    return model


def _smoothed(successes: Numbers, trials: Numbers, prior_strength: float) -> Numbers:
    """[pairs + 1] shares drawn towards the share over all; the last one is that share."""
    centre = successes.sum() / max(trials.sum(), 1.0)
    shares = (successes + prior_strength * centre) / np.maximum(trials + prior_strength, LEAST)
    return np.clip(np.append(np.where(trials + prior_strength > 0, shares, centre), centre), LEAST, MOST)


def _objective(clicks: Numbers, chances: Numbers, attraction: Numbers, strength: float, centre: float) -> float:
    likelihood = np.where(clicks > 0, np.log(chances), np.log1p(-chances)).sum()
    prior = strength * (centre * np.log(attraction) + (1 - centre) * np.log1p(-attraction)).sum()
    return float(likelihood + prior)


def perplexities(model: ClickModel, log: ClickLog) -> Numbers:
    """[places] 2^(-mean log2 probability of click or no click), clicks above not seen (Dupret and Piwowarski 2008)."""
    chances = np.clip(model.click_probabilities(log.pair), LEAST, MOST)
    losses = -np.where(log.clicked, np.log2(chances), np.log2(1 - chances)) * log.shown
    return np.asarray(2 ** (losses.sum(axis=0) / np.maximum(log.shown.sum(axis=0), 1)))


def _bernoulli(chances: Numbers, log: ClickLog) -> Numbers:
    chances = np.clip(chances, LEAST, MOST)
    return np.asarray((np.where(log.clicked, np.log(chances), np.log(1 - chances)) * log.shown).sum(axis=1))


def _of_pairs(values: Numbers, pairs: Pairs) -> Numbers:
    """Values of pairs; of those that were never seen, and of no pair, the last one."""
    return np.asarray(values[np.where((pairs < 0) | (pairs >= len(values) - 1), len(values) - 1, pairs)])


def _known(by_place: Numbers, num_places: int) -> Numbers:
    """As many places as asked; beyond those that the logs have, the last one goes on."""
    return np.asarray(by_place[np.minimum(np.arange(num_places), len(by_place) - 1)])
