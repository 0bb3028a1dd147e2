"""Is a score shown to lie below a target? One-sided p-values that hold for any number of items.

A diagnosis asks this of many tasks at once, so its p-values must be right far out in the tail (0.0001, not 0.05), also
with 20 items. A percentile bootstrap is not: five wrong answers have no spread, and it would be sure. Where the score
is a mean of items, the tests here are exact (0/1 scores) or valid for every sample size (scores between); the
bootstrap serves only scores that are no means, beside the test of the items.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.special import logsumexp
from scipy.stats import binom

from megatron_redone.scoring.paired import Numbers, PairedDraws, ScoreOfSums
from megatron_redone.scoring.statistics import bootstrap_sums

NUM_BETS = 200
_CHUNK = 10_000


def below_target(values: Sequence[float], target: float) -> float:
    """p-value of "the mean is at least `target`" for independent item scores in 0..1.

    0/1 scores: the binomial tail P(X <= successes), exact. Others: `betting_p_value`.

    Raises:
        ValueError: no values, or one outside 0..1.
    """
    numbers = _checked(values)
    if target <= 0.0:
        return 1.0
    if np.isin(numbers, (0.0, 1.0)).all():
        return float(binom.cdf(int(numbers.sum()), len(numbers), min(target, 1.0)))
    return betting_p_value(numbers, target)


def betting_p_value(values: Sequence[float] | Numbers, target: float) -> float:
    """p-value of "the mean is at least `target`" for scores in 0..1, whatever their distribution.

    A gambler who stakes a share of the capital on each item lying below the target ends with
    K(stake) = prod(1 + stake * (target - value)). If the mean reaches the target, the expectation of K is at most 1 for
    every stake in 0..1/(1 - target), hence also that of the mean over many stakes, and by Markov's inequality 1/K is
    a p-value for any number of items (Waudby-Smith and Ramdas 2024, section 4; our mixture over a grid of stakes
    makes it independent of the order of the items). Small spread lets it grow fast, as a t-test's would.

    Raises:
        ValueError: no values, or one outside 0..1.
    """
    numbers = _checked(values)
    if target <= 0.0:
        return 1.0
    if target >= 1.0:
        return 1.0 if numbers.min() >= 1.0 else 0.0
    stakes = np.arange(1, NUM_BETS + 1) / (NUM_BETS + 1) / (1.0 - target)
    growth = np.zeros(NUM_BETS)
    for part in np.array_split(numbers, -(-len(numbers) // _CHUNK)):  # bounds the memory
        growth += np.log1p(stakes[:, None] * (target - part[None, :])).sum(axis=1)
    return float(min(1.0, math.exp(min(0.0, -(logsumexp(growth) - math.log(NUM_BETS))))))


def aggregate_below_target(
    statistics: Numbers, score: ScoreOfSums, values: Sequence[float], target: float, seed: int, num_resamples: int
) -> float:
    """p-value of "the score is at least `target`" for a score of sums over items, such as micro-F1.

    The larger of two: the share of bootstrap resamples that reach the target, and `below_target` of the item scores,
    which keeps few or equal items from looking certain.

    Args:
        statistics: [items, statistics].
        score: sums [resamples, statistics] to scores, in the unit of `target` and `values` (0..1).
        values: [items], 0..1.
    """
    of_items = below_target(values, target)
    draws = score(bootstrap_sums(statistics, seed, num_resamples))
    return max(of_items, (int((draws >= target).sum()) + 1) / (num_resamples + 1))


def below_reference(values: Sequence[float], reference: Sequence[float]) -> float | None:
    """p-value of "as good as the reference on the same items" for 0/1 scores: McNemar's exact test, one-sided.

    Of the items on which the two differ, each is as likely to be lost as won if they are equally good. None where a
    score is neither 0 nor 1.

    Raises:
        ValueError: lengths differ, no values, or one outside 0..1.
    """
    own, other = _checked(values), _checked(reference)
    if len(own) != len(other):
        raise ValueError(f"{len(own)} values against {len(other)}; a paired test needs the same items on both sides")
    if not np.isin(np.concatenate([own, other]), (0.0, 1.0)).all():
        return None
    won, lost = int((own > other).sum()), int((own < other).sum())
    return float(binom.cdf(won, won + lost, 0.5)) if won + lost else 1.0


def drawn_below_reference(draws: PairedDraws) -> float:
    """p-value of "second is at least first": the larger of the bootstrap's and of exchanges, both one-sided."""
    differences = draws.second[1:] - draws.first[1:]
    count = len(differences)
    reached = int((differences >= 0).sum())
    tolerance = 1e-9 * max(1.0, abs(draws.difference))
    as_low = int((draws.exchanged[1:] <= draws.exchanged[0] + tolerance).sum())
    return max((reached + 1) / (count + 1), (as_low + 1) / (count + 1))


def _checked(values: Sequence[float] | Numbers) -> Numbers:
    numbers = np.asarray(values, dtype=np.float64)
    if not len(numbers):
        raise ValueError("a test of no values; give at least one")
    if not ((numbers >= 0.0) & (numbers <= 1.0)).all():
        raise ValueError(f"values from {numbers.min()} to {numbers.max()}; item scores lie in 0..1")
    return numbers
