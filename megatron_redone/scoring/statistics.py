"""Confidence intervals of scores: seeded bootstrap, Wilson for 0/1 scores, paired differences, and Cohen's kappa.

All bootstrap intervals are percentile intervals over resampled items, drawn by Philox from the seed, so the
same values and seed give the same interval everywhere.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from megatron_redone.common.seeding import numpy_rng
from megatron_redone.scoring.base import Score, Scorer

_CHUNK_CELLS = 4_000_000


def bootstrap_interval(
    values: Sequence[float], seed: int, level: float = 0.95, num_resamples: int = 2000
) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean of the values (Efron 1979).

    Equal values give an interval without width, however few they are: use `mean_interval` for 0/1 scores.

    Raises:
        ValueError: no values, a level outside (0, 1), or fewer than 1 resample.
    """
    numbers = np.asarray(values, dtype=np.float64)
    _check(len(numbers), level, num_resamples)
    means = np.concatenate([numbers[draw].mean(axis=1) for draw in _draws(len(numbers), seed, num_resamples)])
    low, high = _percentiles(means, level)
    # Sums of equal numbers round: the mean of the values must never fall outside by an ulp.
    return min(low, float(numbers.mean())), max(high, float(numbers.mean()))


def bootstrap_aggregate_interval(
    scorer: Scorer, scores: Sequence[Score], seed: int, level: float = 0.95, num_resamples: int = 2000
) -> tuple[float, float]:
    """Percentile bootstrap interval of `scorer.aggregate` over resampled items, whatever it computes.

    Raises:
        ValueError: as `bootstrap_interval`.
    """
    _check(len(scores), level, num_resamples)
    values = [
        scorer.aggregate([scores[index] for index in row])
        for draw in _draws(len(scores), seed, num_resamples)
        for row in draw
    ]
    return _percentiles(np.asarray(values, dtype=np.float64), level)


def bootstrap_sums(
    statistics: npt.NDArray[np.float64], seed: int, num_resamples: int = 2000
) -> npt.NDArray[np.float64]:
    """Sums [num_resamples, num_statistics] of item statistics [num_items, num_statistics] over resampled items.

    The items of a resample depend on the seed and the number of items only, so two systems on the same items are
    resampled alike, and the difference of what is computed from both sums is a paired bootstrap.

    Raises:
        ValueError: no items, or fewer than 1 resample.
    """
    num_items = len(statistics)
    _check(num_items, 0.95, num_resamples)
    sums = []
    for draw in _draws(num_items, seed, num_resamples):
        places = (draw + np.arange(len(draw))[:, None] * num_items).ravel()
        counts = np.bincount(places, minlength=len(draw) * num_items).reshape(len(draw), num_items)
        sums.append(counts @ statistics)
    return np.concatenate(sums)


def wilson_interval(num_successes: int, num_trials: int, level: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of a share (1927): honest for few trials and for 0 or all successes.

    Raises:
        ValueError: no trials, successes outside 0..trials, or a level outside (0, 1).
    """
    _check(num_trials, level, 1)
    if not 0 <= num_successes <= num_trials:
        raise ValueError(f"{num_successes} successes of {num_trials} trials; give a count in 0..{num_trials}")
    z = NormalDist().inv_cdf(0.5 + level / 2)
    share = num_successes / num_trials
    scale = 1 + z * z / num_trials
    centre = (share + z * z / (2 * num_trials)) / scale
    half = z * math.sqrt(share * (1 - share) / num_trials + z * z / (4 * num_trials**2)) / scale
    low = 0.0 if num_successes == 0 else max(centre - half, 0.0)
    high = 1.0 if num_successes == num_trials else min(centre + half, 1.0)
    return low, high


def mean_interval(
    values: Sequence[float], seed: int, level: float = 0.95, num_resamples: int = 2000
) -> tuple[float, float]:
    """Interval of the mean of item scores: Wilson's where every score is 0 or 1, else the bootstrap's.

    Raises:
        ValueError: as `bootstrap_interval`.
    """
    if len(values) > 0 and all(value in (0.0, 1.0) for value in values):
        return wilson_interval(int(sum(values)), len(values), level)
    return bootstrap_interval(values, seed, level, num_resamples)


def paired_difference_interval(
    first: Sequence[float], second: Sequence[float], seed: int, level: float = 0.95, num_resamples: int = 2000
) -> tuple[float, float]:
    """Bootstrap interval of mean(second - first) over the same items; "no conclusion" where it holds 0.

    Raises:
        ValueError: lengths differ, or as `bootstrap_interval`.
    """
    if len(first) != len(second):
        raise ValueError(
            f"{len(first)} values against {len(second)}; a paired interval needs the same items on both sides"
        )
    return bootstrap_interval([b - a for a, b in zip(first, second, strict=True)], seed, level, num_resamples)


def cohen_kappa(first: Sequence[str], second: Sequence[str]) -> float:
    """Cohen's kappa of two raters of the same items (Cohen 1960): (p_o - p_e) / (1 - p_e).

    p_o is the share of items with equal labels, p_e the share that would be equal if both raters drew theirs at random
    with their own frequencies. Where p_e is 1 (both gave one and the same label throughout) nothing can be told from
    chance and kappa is 0; scikit-learn returns nan there.

    Raises:
        ValueError: lengths differ, or no items.
    """
    codes, num_labels = _codes(first, second)
    return float(_kappas(codes[:, None, :], num_labels)[0])


def kappa_interval(
    first: Sequence[str], second: Sequence[str], seed: int, level: float = 0.95, num_resamples: int = 2000
) -> tuple[float, float]:
    """Percentile bootstrap interval of `cohen_kappa` over resampled items.

    Raises:
        ValueError: as `cohen_kappa` and `bootstrap_interval`.
    """
    codes, num_labels = _codes(first, second)
    _check(codes.shape[1], level, num_resamples)
    draws = _draws(codes.shape[1], seed, num_resamples)
    return _percentiles(np.concatenate([_kappas(codes[:, draw], num_labels) for draw in draws]), level)


def _codes(first: Sequence[str], second: Sequence[str]) -> tuple[npt.NDArray[np.int64], int]:
    """[2, num_items] numbers of the labels, and how many labels there are."""
    if len(first) != len(second) or not first:
        raise ValueError(f"{len(first)} labels against {len(second)}; kappa needs the same items, at least one")
    numbers = {label: number for number, label in enumerate(sorted({*first, *second}))}
    return np.array([[numbers[label] for label in labels] for labels in (first, second)]), len(numbers)


def _kappas(codes: npt.NDArray[np.int64], num_labels: int) -> npt.NDArray[np.float64]:
    """[resamples]: kappa of each row of `codes` [2, resamples, num_items]."""
    observed = (codes[0] == codes[1]).mean(axis=1)
    expected = sum(
        ((codes[0] == label).mean(axis=1) * (codes[1] == label).mean(axis=1) for label in range(num_labels)),
        start=np.zeros(codes.shape[1]),
    )
    beyond_chance = np.where(expected < 1.0, 1.0 - expected, 1.0)
    return np.asarray(np.where(expected < 1.0, (observed - expected) / beyond_chance, 0.0))


def _check(num_values: int, level: float, num_resamples: int) -> None:
    if num_values < 1:
        raise ValueError("an interval of no values; give at least one")
    if not 0.0 < level < 1.0:
        raise ValueError(f"level={level} is not a confidence level; give a share between 0 and 1, such as 0.95")
    if num_resamples < 1:
        raise ValueError(f"num_resamples={num_resamples}; give at least 1")


def _draws(num_values: int, seed: int, num_resamples: int) -> Iterator[npt.NDArray[np.int64]]:
    """Index arrays [resamples of this chunk, num_values], in chunks that bound the memory."""
    generator = numpy_rng(seed, "bootstrap")
    chunk = max(_CHUNK_CELLS // num_values, 1)
    for start in range(0, num_resamples, chunk):
        size = (min(chunk, num_resamples - start), num_values)
        yield generator.integers(0, num_values, size=size, dtype=np.int64)


def _percentiles(values: npt.NDArray[np.float64], level: float) -> tuple[float, float]:
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
