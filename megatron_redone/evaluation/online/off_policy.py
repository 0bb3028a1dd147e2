"""What other rankings would be worth, from clicks on the logged ones: importance weighting by propensities.

Estimators of Li et al. 2018 ("Offline evaluation of ranking policies with click models"); the value is the expected
number of clicks on a page.

    item-position: a click on a note at a place counts 1 / P(note at that place | query) where the new ranking has the
        note there, else nothing. Assumes that a click depends on query, note and place alone.
    position-based: a click on a note counts examination[new place] / E[examination of the note's logged places].
        Assumes the position-based model; notes may move, so far more of the log is used.

Propensities are those of the logs themselves: how often a query showed a note at each place. A note that a query never
showed cannot be weighed; `support` tells how much of the new rankings the logs know. Weights are clipped (Ionides
2008): less variance for some bias towards too few clicks. The self-normalised form (Swaminathan and Joachims 2015)
divides by the mean weight of a place instead of 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from megatron_redone.common.errors import DataError
from megatron_redone.evaluation.online.click_log import ClickLog

Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Weighted:
    """Importance weights of the logged pages whose query has a new ranking.

    Attributes:
        item_position: [pages, places] weight of each impression for the new ranking at that place; 0 where it differs.
        position_based: [pages, places] weight of each impression, wherever the new ranking has the note.
        clicked: [pages, places].
        pages_of_place: [places] pages whose new ranking has the place.
        support: share of the places of the new rankings, by logged pages, at which the logs have seen the same note.
        support_anywhere: the same for notes that the query showed at any place.
    """

    item_position: Numbers
    position_based: Numbers
    clicked: npt.NDArray[np.bool_]
    pages_of_place: Numbers
    support: float
    support_anywhere: float


def importance_weights(
    log: ClickLog, rankings: Mapping[str, Sequence[str]], examination: Numbers, clip: float
) -> Weighted:
    """Weights of all logged pages for which there is a new ranking.

    Args:
        rankings: by query the notes from the top.
        examination: [places] of the position-based model.
        clip: largest weight.

    Raises:
        DataError: no ranking belongs to a logged query.
    """
    wanted = {log.query_numbers[query]: query for query in rankings if query in log.query_numbers}
    known = log.part(np.isin(log.query, list(wanted)))
    if not len(known):
        raise DataError("no ranking belongs to a query of the logs; the queries must be spelt as they were logged")
    width = known.pair.shape[1]
    seen_at, pages_of = _propensities(known)
    gamma = examination[np.minimum(np.arange(max(width, 1)), len(examination) - 1)]
    shape = known.pair.shape
    item_position, position_based = np.zeros(shape), np.zeros(shape)
    covered = anywhere = places = 0.0
    pages_of_place = np.zeros(width)
    for number, query in wanted.items():
        of_query = np.flatnonzero(known.query == number)
        new_place = {
            known.pair_numbers[query, note]: place
            for place, note in enumerate(rankings[query][:width])
            if (query, note) in known.pair_numbers
        }
        count = len(of_query)
        length = min(len(rankings[query]), width)
        places += count * length
        pages_of_place[:length] += count
        for pair, place in new_place.items():
            shares = seen_at.get(pair, np.zeros(width)) / pages_of[number]
            covered += count * (shares[place] > 0)
            anywhere += count * bool(shares.any())
            rows, columns = np.nonzero(known.pair[of_query] == pair)
            there = columns == place
            item_position[of_query[rows[there]], columns[there]] = min(1 / shares[place], clip) if there.any() else 0
            if len(rows):
                position_based[of_query[rows], columns] = min(gamma[place] / float(shares @ gamma[:width]), clip)
    if not places:
        raise DataError("the rankings of the logged queries are empty; each needs notes")
    return Weighted(
        item_position, position_based, known.clicked & known.shown, pages_of_place, covered / places, anywhere / places
    )


def _propensities(log: ClickLog) -> tuple[dict[int, Numbers], dict[int, int]]:
    """pair -> [places] how often it stood at each; query -> pages."""
    width = log.pair.shape[1]
    seen: dict[int, Numbers] = {}
    for place in range(width):
        numbers, counts = np.unique(log.pair[log.shown[:, place], place], return_counts=True)
        for pair, count in zip(numbers.tolist(), counts.tolist(), strict=True):
            seen.setdefault(pair, np.zeros(width))[place] = count
    queries, pages = np.unique(log.query, return_counts=True)
    return seen, dict(zip(queries.tolist(), pages.tolist(), strict=True))


def page_values(weights: Numbers, clicked: npt.NDArray[np.bool_]) -> Numbers:
    """[pages] weighted clicks, whose mean is the (clipped) importance-weighted value."""
    return np.asarray((weights * clicked).sum(axis=1))


def self_normalised_columns(weights: Numbers, clicked: npt.NDArray[np.bool_], pages_of_place: Numbers) -> Numbers:
    """[pages, 2 * used places] weighted clicks and weights by place, for `self_normalised`."""
    used = pages_of_place > 0
    return np.column_stack([(weights * clicked)[:, used], weights[:, used]])


def self_normalised(sums: Numbers, pages_of_place: Numbers) -> Numbers:
    """[resamples] sum over the places of weighted clicks / weights, times the share of pages that have the place.

    A place that no logged page supports counts 0.
    """
    used = pages_of_place > 0
    width = int(used.sum())
    clicks, weights = sums[:, :width], sums[:, width:]
    rates = np.divide(clicks, weights, out=np.zeros_like(clicks), where=weights > 0)
    return np.asarray(rates @ (pages_of_place[used] / pages_of_place.max()))


def effective_pages(weights: Numbers) -> float:
    """Kish's effective number of pages: (sum of weights)^2 / sum of squares, over the pages' total weights."""
    totals = weights.sum(axis=1)
    squares = float((totals**2).sum())
    return float(totals.sum() ** 2 / squares) if squares else 0.0
