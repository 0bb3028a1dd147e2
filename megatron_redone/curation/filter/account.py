"""The account of a filter run: every text that was read is kept or dropped for one reason; samples for review."""

from __future__ import annotations

import heapq
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from megatron_redone.common.files import atomic_write_text
from megatron_redone.common.seeding import derive_seed

MAX_REFUSALS = 1000
"""Messages of refused lines that one task keeps; all are counted."""
LENGTH_BINS_PER_DOUBLING = 2
LOGPROB_BIN = 0.25
"""Width of a bin of the likelihood's histogram, in nats a token."""


@dataclass
class Tally:
    """Documents with their size."""

    documents: int = 0
    characters: int = 0
    units: int = 0

    def add(self, characters: int, units: int) -> None:
        """Counts one document."""
        self.documents += 1
        self.characters += characters
        self.units += units

    def merge(self, other: Tally) -> None:
        """Adds another tally."""
        self.documents += other.documents
        self.characters += other.characters
        self.units += other.units


@dataclass
class Samples:
    """At most `limit` items of a stream of any length: those whose hash of (seed, key) is smallest.

    Keys differ (a text's file and line). Which items are taken does not depend on how the stream was divided
    over tasks.
    """

    limit: int
    seed: int
    _heap: list[tuple[int, str, dict[str, Any]]] = field(default_factory=list)

    def offer(self, key: str, reason: str, item: Mapping[str, Any]) -> None:
        """Considers one item."""
        self._push(derive_seed(self.seed, "sample", reason, key), key, dict(item))

    def _push(self, rank: int, key: str, item: dict[str, Any]) -> None:
        if len(self._heap) < self.limit:
            heapq.heappush(self._heap, (-rank, key, item))
        elif self._heap and -rank > self._heap[0][0]:
            heapq.heapreplace(self._heap, (-rank, key, item))

    def would_take(self, key: str, reason: str) -> bool:
        """Whether `offer` would keep the item, so that it need not be made."""
        if len(self._heap) < self.limit:
            return self.limit > 0
        return -derive_seed(self.seed, "sample", reason, key) > self._heap[0][0]

    def to_json(self) -> list[list[Any]]:
        """(rank, key, item) by rank."""
        return [[-rank, key, item] for rank, key, item in sorted(self._heap, key=lambda entry: (-entry[0], entry[1]))]

    def merge_json(self, entries: Iterable[list[Any]]) -> None:
        """Considers what another task kept."""
        for rank, key, item in entries:
            self._push(rank, key, item)

    def items(self) -> Iterator[dict[str, Any]]:
        """The items in an order that looks random but is fixed."""
        for _, _, item in self.to_json():
            yield item


class Account:
    """Counts and samples of one task, or of all.

    Args:
        samples_per_reason: texts that are kept for each reason.
        sample_characters: characters of each that are kept.
    """

    def __init__(self, seed: int, samples_per_reason: int, sample_characters: int) -> None:
        self.seed, self.samples_per_reason, self.sample_characters = seed, samples_per_reason, sample_characters
        self.tallies: dict[str, Tally] = {}
        """`read`, `kept`, `dropped/REASON`."""
        self.changed: dict[str, int] = {}
        """Private data masked and markup taken out, in kept texts of the rules."""
        self.histograms: dict[str, dict[int, int]] = {}
        """name -> bin -> documents; bins by `length_bin` and `logprob_bin`."""
        self.samples: dict[str, Samples] = {}
        self.lines: dict[str, list[int]] = {}
        """file -> [lines, refused lines]."""
        self.refused: list[str] = []
        self.num_refused = 0

    def count(self, name: str, text: str, units: int) -> None:
        """One document more under `read` or `kept`."""
        self.tallies.setdefault(name, Tally()).add(len(text), units)
        self.histogram(f"length/{name}", length_bin(units))

    def drop(self, reason: str, detail: str, id: str, text: str, units: int, place: str) -> None:
        """One document dropped."""
        self.tallies.setdefault(f"dropped/{reason}", Tally()).add(len(text), units)
        self.sample(reason, detail, id, text, place)

    def sample(self, reason: str, detail: str, id: str, text: str, place: str) -> None:
        """Considers a text for review."""
        samples = self.samples.setdefault(reason, Samples(self.samples_per_reason, self.seed))
        if samples.would_take(place, reason):
            cut = text[: self.sample_characters]
            item = {"id": id, "source": place, "reason": reason, "detail": detail, "characters": len(text), "text": cut}
            samples.offer(place, reason, item)

    def histogram(self, name: str, place: int) -> None:
        """One document more in a bin."""
        bins = self.histograms.setdefault(name, {})
        bins[place] = bins.get(place, 0) + 1

    def change(self, changed: Mapping[str, int]) -> None:
        """Adds counts of what was taken out or masked."""
        for kind, count in changed.items():
            self.changed[kind] = self.changed.get(kind, 0) + count

    def line(self, label: str, refusal: str | None = None, is_line: bool = True) -> None:
        """One line of a file that was read, or refused with a message."""
        lines = self.lines.setdefault(label, [0, 0])
        lines[0] += is_line
        if refusal is not None:
            lines[1] += is_line
            self.num_refused += 1
            if len(self.refused) < MAX_REFUSALS:
                self.refused.append(refusal)

    def write(self, path: Path) -> None:
        """As JSON, atomically."""
        value = {
            "tallies": {name: vars(tally) for name, tally in self.tallies.items()},
            "changed": self.changed,
            "histograms": self.histograms,
            "samples": {reason: samples.to_json() for reason, samples in self.samples.items()},
            "lines": self.lines,
            "refused": self.refused,
            "num_refused": self.num_refused,
        }
        atomic_write_text(path, json.dumps(value, ensure_ascii=False))

    def merge_file(self, path: Path) -> None:
        """Adds what a task wrote."""
        value = json.loads(path.read_text(encoding="utf-8", errors="surrogatepass"))
        for name, tally in value["tallies"].items():
            self.tallies.setdefault(name, Tally()).merge(Tally(**tally))
        self.change(value["changed"])
        for name, bins in value["histograms"].items():
            merged = self.histograms.setdefault(name, {})
            for place, count in bins.items():
                merged[int(place)] = merged.get(int(place), 0) + count
        for reason, entries in value["samples"].items():
            self.samples.setdefault(reason, Samples(self.samples_per_reason, self.seed)).merge_json(entries)
        for label, (lines, refused) in value["lines"].items():
            of_file = self.lines.setdefault(label, [0, 0])
            of_file[0] += lines
            of_file[1] += refused
        self.refused += value["refused"][: MAX_REFUSALS - len(self.refused)]
        self.num_refused += value["num_refused"]


def length_bin(units: int) -> int:
    """Bin of a length: each is half a doubling wide; see `length_edge`."""
    return int(math.log2(units) * LENGTH_BINS_PER_DOUBLING) if units else -1


def length_edge(place: int) -> float:
    """Smallest length of a bin, in units."""
    return float(2.0 ** (place / LENGTH_BINS_PER_DOUBLING)) if place >= 0 else 0.0


def logprob_bin(mean_logprob: float) -> int:
    """Bin of a mean log-probability; it begins at `bin * LOGPROB_BIN`."""
    return math.floor(mean_logprob / LOGPROB_BIN)
