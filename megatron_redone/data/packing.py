"""Packing: documents of many lengths into bins of one size, by best fit with the longest first.

Documents in a bin do not see each other (see `PackedBatch`), so packing changes speed and never the maths.
Best fit decreasing follows Johnson, "Near-optimal bin packing algorithms" (1973).
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from megatron_redone.common.errors import DataError
from megatron_redone.common.seeding import derive_seed, rng
from megatron_redone.data.document import Document

TooLongPolicy = Literal["drop", "truncate"]


@dataclass(frozen=True)
class PackingReport:
    """What packing did.

    Attributes:
        efficiency: packed tokens / (bins * max_tokens), 0..1.
        num_bins: bins made.
        num_packed: documents in them.
        dropped_too_long: documents left out because they exceed max_tokens (policy "drop").
        truncated: documents cut to max_tokens (policy "truncate").
    """

    efficiency: float
    num_bins: int
    num_packed: int
    dropped_too_long: int
    truncated: int


def pack_documents(
    documents: Sequence[Document], max_tokens: int, seed: int, too_long: TooLongPolicy = "drop"
) -> tuple[list[list[Document]], PackingReport]:
    """Packs documents into bins of at most `max_tokens` tokens.

    The result depends on the documents, their sample ids and the seed, not on the order they come in (as
    long as sample ids are unique): equal lengths are ordered by a hash of (seed, sample id), and the bins
    are then shuffled.

    Args:
        documents: what to pack; each goes into exactly one bin unless it is dropped.
        max_tokens: size of a bin in tokens.
        seed: of the tie-breaks and of the order of the bins.
        too_long: what happens to documents of more than max_tokens: "drop" leaves them out and counts them,
            "truncate" keeps their first max_tokens tokens and counts them.

    Raises:
        DataError: nothing is left to pack.
    """
    long = sum(len(document) > max_tokens for document in documents)
    if too_long == "drop":
        kept = [document for document in documents if len(document) <= max_tokens]
    else:
        kept = [document.truncated(max_tokens) for document in documents]
    if not kept:
        raise DataError(
            f"nothing to pack: {len(documents)} documents, {long} of them over max_tokens={max_tokens}; "
            'raise max_tokens or choose the policy "truncate"'
        )
    lengths = [len(document) for document in kept]
    bins = pack_lengths(lengths, [document.sample_id for document in kept], max_tokens, seed)
    report = PackingReport(
        efficiency=sum(map(len, kept)) / (len(bins) * max_tokens),
        num_bins=len(bins),
        num_packed=len(kept),
        dropped_too_long=long if too_long == "drop" else 0,
        truncated=long if too_long == "truncate" else 0,
    )
    return [[kept[index] for index in members] for members in bins], report


def pack_lengths(lengths: Sequence[int], sample_ids: Sequence[str], max_tokens: int, seed: int) -> list[list[int]]:
    """Bins of indices into `lengths` (each in 1..max_tokens), in an order of the seed.

    Best fit with the longest first; equal lengths are ordered by a hash of (seed, sample id), and the bins are
    shuffled.
    """
    ties = [derive_seed(seed, "pack", sample_id) for sample_id in sample_ids]
    order = sorted(range(len(lengths)), key=lambda index: (-lengths[index], ties[index]))
    bins = best_fit_bins([lengths[index] for index in order], max_tokens)
    rng(seed, "bins").shuffle(bins)
    return [[order[place] for place in members] for members in bins]


def best_fit_bins(lengths: Sequence[int], max_tokens: int) -> list[list[int]]:
    """Bins of indices into `lengths`, which come longest first; each goes where it leaves the least room.

    Among bins with equal room the one opened last is taken. O(n log n + n * distinct rooms) in the worst
    case.

    Raises:
        ValueError: a length outside 1..max_tokens.
    """
    bins: list[list[int]] = []
    with_room: dict[int, list[int]] = {}  # room in tokens -> bins that have it
    rooms: list[int] = []  # the keys of with_room, ascending
    for index, length in enumerate(lengths):
        if not 1 <= length <= max_tokens:
            raise ValueError(f"a length of {length} tokens does not fit a bin of {max_tokens}; drop or truncate it")
        place = bisect_left(rooms, length)
        if place == len(rooms):
            room, target = max_tokens, len(bins)
            bins.append([])
        else:
            room = rooms[place]
            target = with_room[room].pop()
            if not with_room[room]:
                del with_room[room], rooms[place]
        bins[target].append(index)
        if room > length:
            if room - length not in with_room:
                insort(rooms, room - length)
            with_room.setdefault(room - length, []).append(target)
    return bins
