"""Lengths counted one by one: memory for the different lengths only, and exact quantiles."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable


class LengthHistogram:
    """How many things have each length (an integer >= 0)."""

    def __init__(self, lengths: Iterable[int] = ()) -> None:
        self.counts: Counter[int] = Counter(lengths)

    def add(self, length: int, times: int = 1) -> None:
        """Counts one more length."""
        self.counts[length] += times

    @property
    def count(self) -> int:
        """Number of lengths."""
        return self.counts.total()

    @property
    def total(self) -> int:
        """Their sum."""
        return sum(length * times for length, times in self.counts.items())

    @property
    def longest(self) -> int:
        """The largest, 0 for none."""
        return max(self.counts, default=0)

    def quantile(self, share: float) -> int:
        """The smallest length that at least `share` (0..1) of all do not exceed (nearest rank); 0 for none."""
        wanted = max(1, math.ceil(share * self.count - 1e-9))
        seen = 0
        for length in sorted(self.counts):
            seen += self.counts[length]
            if seen >= wanted:
                return length
        return 0

    def bars(self, bins_per_decade: int = 12) -> list[tuple[float, float, int]]:
        """(from, to, count) of bins of equal width on a log axis; lengths of 0 count as 1."""
        if not self.counts:
            return []
        places: Counter[int] = Counter()
        for length, times in self.counts.items():
            places[math.floor(math.log10(max(length, 1)) * bins_per_decade + 1e-9)] += times
        edges = range(min(places), max(places) + 1)
        return [(10 ** (p / bins_per_decade), 10 ** ((p + 1) / bins_per_decade), places[p]) for p in edges]
