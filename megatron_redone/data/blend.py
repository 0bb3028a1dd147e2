"""Samples of several corpora in given shares, in an order that is a pure function of weights and sample number.

Which corpus gives sample n is the chairman assignment problem. Taking the corpus that lags most is not enough: with
several small shares its lag can pass 1. Tijdeman (1980, "The chairman assignment problem", Discrete Mathematics 32)
shows that a schedule exists in which, after any number of samples n, the count of each of k corpora differs from
share * n by at most 1 - 1/(2k - 2). It is found by serving, among the corpora that may be served, the one whose
deadline is first. Weights are exact fractions, so nothing drifts over a run of any length.
"""

from __future__ import annotations

import heapq
import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from megatron_redone.common.errors import DataError
from megatron_redone.data.document import Document

BLOCK = 4096
"""The order is computed in blocks of so many samples; of a block that is passed only the counts before it are kept."""
BLOCKS_KEPT = 4
IntArray = npt.NDArray[np.int64]


class Samples(Protocol):
    """An endless stream of samples with random access."""

    def __getitem__(self, index: int) -> list[Document]:
        """Sample `index` >= 0."""


def exact_shares(weights: Sequence[float]) -> list[int]:
    """Whole numbers in the ratio of the weights as they are written in decimal (0.3 is 3/10), without common divisor.

    Raises:
        DataError: a weight below 0, or none above it.
    """
    fractions = [Fraction(str(weight)) for weight in weights]
    if min(fractions, default=Fraction()) < 0 or not any(fractions):
        raise DataError(f"weights {list(weights)}: none may be below 0, and one must be above; correct them")
    denominator = math.lcm(*(fraction.denominator for fraction in fractions))
    whole = [int(fraction * denominator) for fraction in fractions]
    divisor = math.gcd(*whole)
    return [number // divisor for number in whole]


class BlendOrder:
    """Which corpus gives each sample, and which of its own samples that is.

    For every n >= 0 and corpus i, `counts(n)[i]` differs from n * weights[i] / sum(weights) by less than 1. The order
    repeats after sum(`exact_shares(weights)`) samples.

    Args:
        weights: of the corpora, in any unit.
    """

    def __init__(self, weights: Sequence[float]) -> None:
        self.shares = exact_shares(weights)
        self.period = sum(self.shares)
        self._starts: list[IntArray] = [np.zeros(len(self.shares), dtype=np.int64)]
        self._blocks: dict[int, tuple[IntArray, IntArray]] = {}

    def __getitem__(self, index: int) -> tuple[int, int]:
        """(corpus, number of its own sample) of sample `index`."""
        rounds, place = divmod(index, self.period)
        corpora, ranks = self._block(place // BLOCK)
        corpus = int(corpora[place % BLOCK])
        return corpus, rounds * self.shares[corpus] + int(ranks[place % BLOCK])

    def counts(self, num_samples: int) -> list[int]:
        """Samples that each corpus gives to the first `num_samples`."""
        rounds, rest = divmod(num_samples, self.period)
        corpora, _ = self._block(rest // BLOCK)
        inside = np.bincount(corpora[: rest % BLOCK], minlength=len(self.shares))
        before = self._starts[rest // BLOCK]
        return [
            rounds * share + int(start) + int(n) for share, start, n in zip(self.shares, before, inside, strict=True)
        ]

    def _block(self, number: int) -> tuple[IntArray, IntArray]:
        """Corpora and their own sample numbers [BLOCK] of the samples of one block within the period."""
        if number not in self._blocks:
            first = min(number, len(self._starts) - 1)
            for block in range(first, number + 1):
                corpora, ranks = self._compute(block)
            while len(self._blocks) >= BLOCKS_KEPT:
                del self._blocks[next(iter(self._blocks))]
            self._blocks[number] = corpora, ranks
        return self._blocks[number]

    def _compute(self, block: int) -> tuple[IntArray, IntArray]:
        """Earliest deadline first. The j-th sample of corpus i has to be one of `release`..`deadline` (from 1)."""
        counts: list[int] = self._starts[block].tolist()
        slack = max(2, 2 * len(self.shares) - 2)  # 1 / delta of the paper
        waiting: list[tuple[int, int]] = []
        ready: list[tuple[int, int]] = []

        def enqueue(corpus: int) -> None:
            share, done = self.shares[corpus], counts[corpus]
            release = -(-self.period * (done * slack + 1) // (share * slack))
            heapq.heappush(waiting, (release, corpus))

        def deadline(corpus: int) -> int:
            share, done = self.shares[corpus], counts[corpus]
            return self.period * ((done + 1) * slack - 1) // (share * slack) + 1

        for corpus, share in enumerate(self.shares):
            if share:
                enqueue(corpus)
        corpora, ranks = np.empty(BLOCK, dtype=np.int64), np.empty(BLOCK, dtype=np.int64)
        for place in range(BLOCK):
            now = block * BLOCK + place + 1
            while waiting and waiting[0][0] <= now:
                _, corpus = heapq.heappop(waiting)
                heapq.heappush(ready, (deadline(corpus), corpus))
            _, corpus = heapq.heappop(ready)
            corpora[place], ranks[place] = corpus, counts[corpus]
            counts[corpus] += 1
            enqueue(corpus)
        if block + 1 == len(self._starts):
            self._starts.append(np.array(counts, dtype=np.int64))
        return corpora, ranks


@dataclass(frozen=True)
class BlendPhase:
    """From this sample on, these weights (by corpus name; a corpus that is not named gives nothing)."""

    from_sample: int
    weights: Mapping[str, float]


class Blend:
    """An order of samples over several phases: after a change of weights every corpus goes on at its own next sample.

    Args:
        names: of the corpora.
        phases: the first from sample 0, each later than the one before.

    Raises:
        DataError: phases out of order, or a weight for a corpus that is not there.
    """

    def __init__(self, names: Sequence[str], phases: Sequence[BlendPhase]) -> None:
        self.names, self.phases = tuple(names), tuple(phases)
        starts = [phase.from_sample for phase in phases]
        if not starts or starts[0] != 0 or sorted(set(starts)) != starts:
            raise DataError(f"phases from samples {starts}: the first begins at 0, each later one after the one before")
        for phase in phases:
            if unknown := sorted(set(phase.weights) - set(names)):
                raise DataError(f"weights name {unknown}, but the corpora are {list(names)}; use the same names")
        self._starts = starts
        self._active = [_active(names, phase) for phase in phases]
        self._orders = [
            BlendOrder([phase.weights[names[corpus]] for corpus in active])
            for phase, active in zip(phases, self._active, strict=True)
        ]
        self._bases = [[0] * len(names)]
        for number in range(len(phases) - 1):
            self._bases.append(self._counts_in(number, starts[number + 1] - starts[number]))

    def __getitem__(self, index: int) -> tuple[int, int]:
        """(corpus, number of its own sample) of sample `index` >= 0."""
        if index < 0:
            raise IndexError(f"sample {index}; samples are numbered from 0 without end")
        phase = bisect_right(self._starts, index) - 1
        place, rank = self._orders[phase][index - self._starts[phase]]
        corpus = self._active[phase][place]
        return corpus, self._bases[phase][corpus] + rank

    def counts(self, num_samples: int) -> dict[str, int]:
        """Samples of each corpus among the first `num_samples`: its next sample has that number."""
        phase = bisect_right(self._starts, num_samples) - 1
        return dict(zip(self.names, self._counts_in(phase, num_samples - self._starts[phase]), strict=True))

    def _counts_in(self, phase: int, num_samples: int) -> list[int]:
        """Samples of each corpus before the phase and among its first `num_samples`."""
        counts = list(self._bases[phase])
        for corpus, count in zip(self._active[phase], self._orders[phase].counts(num_samples), strict=True):
            counts[corpus] += count
        return counts

    def past(self, num_samples: int) -> list[dict[str, Any]]:
        """What decided the first `num_samples`, as JSON: phases that had begun, with whole-number shares by name."""
        return [
            {
                "from_sample": phase.from_sample,
                "shares": {self.names[c]: share for c, share in zip(active, order.shares, strict=True)},
            }
            for phase, active, order in zip(self.phases, self._active, self._orders, strict=True)
            if phase.from_sample < num_samples
        ]


def _active(names: Sequence[str], phase: BlendPhase) -> list[int]:
    """Corpora with a weight, by name: neither the order of the corpora nor those without weight decide anything."""
    return sorted((c for c, name in enumerate(names) if phase.weights.get(name)), key=lambda c: names[c])


class BlendedSamples:
    """Samples of several corpora in the order of a blend; `blend[n]` says which.

    Every corpus is an endless stream of its own epochs, so a small one comes round several times; no document of it
    comes twice before the epoch ends.
    """

    def __init__(self, corpora: Sequence[Samples], blend: Blend) -> None:
        self.corpora, self.blend = list(corpora), blend

    def __getitem__(self, index: int) -> list[Document]:
        """Sample `index` >= 0 of the blend."""
        corpus, own = self.blend[index]
        return self.corpora[corpus][own]
