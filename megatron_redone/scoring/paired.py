"""Whether two systems differ on the same items: paired bootstrap, paired randomisation, false-discovery control.

A score is a function of sums over items (micro-F1, accuracy, BLEU, ...), so items are resampled and their sums scored
again. Both systems are resampled alike: an item that is hard for both moves both scores.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from megatron_redone.common.seeding import derive_seed, numpy_rng
from megatron_redone.scoring.statistics import bootstrap_sums

Numbers = npt.NDArray[np.float64]
ScoreOfSums = Callable[[Numbers], Numbers]
"""Sums of statistics over items, [resamples, statistics], to scores [resamples]."""
_CHUNK_CELLS = 4_000_000


@dataclass(frozen=True)
class PairedDraws:
    """Scores of two systems, measured and resampled.

    Several can be averaged: tasks have items of their own, so their draws are independent.

    Attributes:
        first, second: [1 + resamples] scores; the measured one stands first, then those of bootstrap resamples.
        exchanged: [1 + resamples] second minus first; the measured one stands first, then with the two systems' answers
            exchanged at random, item by item.
    """

    first: Numbers
    second: Numbers
    exchanged: Numbers

    @property
    def difference(self) -> float:
        """Second minus first, as measured."""
        return float(self.second[0] - self.first[0])

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Percentile interval of the difference."""
        return _interval(self.second - self.first, level)

    def p_value(self) -> float:
        """Two-sided p-value that there is no difference: the larger one of two.

        The paired bootstrap's is twice the share of resampled differences on the other side of 0 (Efron and Tibshirani
        1993, chapter 15). With few items that differ it is too small, so the one of paired randomisation (Noreen
        1989) stands beside it: the share of exchanges with a difference at least as large. (m + 1) / (n + 1) in both.
        """
        differences = self.second[1:] - self.first[1:]
        count = len(differences)
        tail = min(int((differences <= 0).sum()), int((differences >= 0).sum()))
        bootstrap = min(1.0, 2 * (tail + 1) / (count + 1))
        tolerance = 1e-9 * max(1.0, abs(self.difference))
        as_large = int((np.abs(self.exchanged[1:]) >= abs(self.exchanged[0]) - tolerance).sum())
        return max(bootstrap, (as_large + 1) / (count + 1))


def paired_draws(
    first: Numbers, second: Numbers, score: ScoreOfSums, seed: int, num_resamples: int = 10_000
) -> PairedDraws:
    """Resamples two systems on the same items.

    Args:
        first, second: statistics by item, [items, statistics]; row i is the same item in both.
        score: the metric.
        num_resamples: bounds the p-values from below: 2 / (num_resamples + 1).

    Raises:
        ValueError: shapes differ, no items, or fewer than 1 resample.
    """
    if first.shape != second.shape:
        raise ValueError(f"statistics of shape {first.shape} against {second.shape}; both need the same items")
    if not len(first):
        raise ValueError("no items to compare; give at least one")
    measured = [score(side.sum(axis=0, keepdims=True)) for side in (first, second)]
    draws = [score(bootstrap_sums(side, seed, num_resamples)) for side in (first, second)]
    return PairedDraws(
        first=np.concatenate([measured[0], draws[0]]),
        second=np.concatenate([measured[1], draws[1]]),
        exchanged=np.concatenate([measured[1] - measured[0], _exchanged(first, second, score, seed, num_resamples)]),
    )


def mean_draws(draws: Sequence[PairedDraws]) -> PairedDraws:
    """The plain mean of several scores, draw by draw.

    Raises:
        ValueError: nothing to average.
    """
    if not draws:
        raise ValueError("the mean of no scores; give at least one")
    return PairedDraws(
        first=np.mean([one.first for one in draws], axis=0),
        second=np.mean([one.second for one in draws], axis=0),
        exchanged=np.mean([one.exchanged for one in draws], axis=0),
    )


def score_interval(scores: Numbers, level: float = 0.95) -> tuple[float, float]:
    """Percentile interval of `PairedDraws.first` or `second`, with the measured score in it."""
    return _interval(scores, level)


def benjamini_hochberg(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values: calling all tests with one of at most q "different" keeps the expected share of false calls
    at q (Benjamini and Hochberg 1995; valid for independent and for positively dependent tests).

    Raises:
        ValueError: a number outside 0..1.
    """
    values = np.asarray(p_values, dtype=np.float64)
    if ((values < 0) | (values > 1) | np.isnan(values)).any():
        raise ValueError(f"p-values {list(p_values)!r}; each must be in 0..1")
    order = np.argsort(values)[::-1]
    scaled = values[order] * len(values) / np.arange(len(values), 0, -1)
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum.accumulate(scaled)
    return [float(value) for value in adjusted]


def _exchanged(first: Numbers, second: Numbers, score: ScoreOfSums, seed: int, num_resamples: int) -> Numbers:
    """[resamples] differences after each item's two answers changed sides with probability 1/2."""
    changes = second - first
    moved = changes[changes.any(axis=1)]
    generator = numpy_rng(derive_seed(seed, "exchange"))
    total_first, total_second = first.sum(axis=0), second.sum(axis=0)
    chunk = max(_CHUNK_CELLS // max(len(moved), 1), 1)
    found = []
    for start in range(0, num_resamples, chunk):
        size = min(chunk, num_resamples - start)
        shifts = generator.integers(0, 2, size=(size, len(moved))).astype(np.float64) @ moved
        found.append(score(total_second - shifts) - score(total_first + shifts))
    return np.concatenate(found)


def _interval(values: Numbers, level: float) -> tuple[float, float]:
    low, high = np.quantile(values[1:], [(1 - level) / 2, (1 + level) / 2])
    return min(float(low), float(values[0])), max(float(high), float(values[0]))
