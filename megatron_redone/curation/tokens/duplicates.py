"""Documents with equal ids all over a corpus, counted in flat memory. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from megatron_redone.curation.tokens.shard import FILE_BITS

KEYS_AT_ONCE = 1 << 22
"""So many keys (16 bytes each with their places) are looked at together."""
SHOWN = 20

Table = npt.NDArray[np.uint64]


def count_duplicates(tables: Sequence[Path], files: Sequence[Path]) -> tuple[int, list[str]]:
    """Documents whose key an earlier one has, and the first of them as `file:line: same id as file:line`.

    Args:
        tables: of `make_shard`: keys and places [2, n], in the order of the keys.
        files: input files by number.
    """
    count = 0
    shown: list[tuple[int, int]] = []
    for keys, places in _ranges([np.load(path, mmap_mode="r", allow_pickle=False) for path in tables]):
        order = np.lexsort((places, keys))
        keys, places = keys[order], places[order]
        again = np.flatnonzero(keys[1:] == keys[:-1]) + 1
        count += len(again)
        first = np.searchsorted(keys, keys[again[:SHOWN]], side="left")
        shown += [(int(p), int(q)) for p, q in zip(places[again[:SHOWN]], places[first], strict=True)]
    return count, [f"{_place(p, files)}: same id as {_place(q, files)}" for p, q in sorted(shown)[:SHOWN]]


def _ranges(tables: Sequence[Table]) -> Iterator[tuple[Table, Table]]:
    """Keys and places of one range of keys after another, each over all tables."""
    total = sum(table.shape[1] for table in tables)
    num_ranges = max(1, -(-total // KEYS_AT_ONCE))
    edges = [number * 2**64 // num_ranges for number in range(1, num_ranges)]
    starts = [0] * len(tables)
    for edge in [*edges, None]:
        ends = [table.shape[1] if edge is None else int(np.searchsorted(table[0], np.uint64(edge))) for table in tables]
        parts = [table[:, start:end] for table, start, end in zip(tables, starts, ends, strict=True)]
        starts = ends
        if parts:
            joined = np.concatenate(parts, axis=1)
            yield joined[0], joined[1]


def _place(place: int, files: Sequence[Path]) -> str:
    return f"{files[place >> FILE_BITS]}:{place & ((1 << FILE_BITS) - 1)}"
