"""Which replica trains which documents in which micro-batch. Imports no torch."""

from __future__ import annotations

import heapq
from collections.abc import Sequence

from megatron_redone.common.errors import DataError
from megatron_redone.data.packing import best_fit_bins


def assign_documents(
    lengths: Sequence[int], num_replicas: int, max_tokens_per_microbatch: int
) -> list[list[list[int]]]:
    """Spreads the documents of one optimizer step over data-parallel replicas and micro-batches.

    Every replica gets the same number of micro-batches, since a pipeline schedule and the gradient reduction
    run in step on all of them; tokens are balanced first over replicas, then over the micro-batches of each.
    The result is a pure function of the arguments. Since the engine divides each loss term by its global
    number of units, the assignment does not change the loss.

    Args:
        lengths: tokens of each document.
        num_replicas: size of the data-parallel axis.
        max_tokens_per_microbatch: no micro-batch holds more.

    Returns:
        result[replica][microbatch] is a list of indices into `lengths`. Every index stands exactly once. A
        list may be empty where there are too few documents: `PackedBatch.from_documents([], ...)` makes a
        zero-weight filler of it.

    Raises:
        DataError: a document longer than a micro-batch.
        ValueError: no replicas, or a document without tokens.
    """
    if num_replicas < 1:
        raise ValueError(f"num_replicas={num_replicas}; at least 1 is needed")
    for index, length in enumerate(lengths):
        if length > max_tokens_per_microbatch:
            raise DataError(
                f"document {index} has {length} tokens, more than max_tokens_per_microbatch="
                f"{max_tokens_per_microbatch}; raise the limit, or drop or truncate long documents"
            )
    longest_first = sorted(range(len(lengths)), key=lambda index: (-lengths[index], index))
    shares = _spread(longest_first, lengths, num_replicas)
    packed = [_pack(share, lengths, max_tokens_per_microbatch) for share in shares]
    num_microbatches = max(1, *map(len, packed))
    return [
        _level(share, bins, lengths, num_microbatches, max_tokens_per_microbatch)
        for share, bins in zip(shares, packed, strict=True)
    ]


def _spread(longest_first: Sequence[int], lengths: Sequence[int], num_shares: int) -> list[list[int]]:
    """Gives each document to the share with the fewest tokens so far (the lowest one among equals)."""
    shares: list[list[int]] = [[] for _ in range(num_shares)]
    loads = [(0, share) for share in range(num_shares)]
    for index in longest_first:
        load, share = loads[0]
        shares[share].append(index)
        heapq.heapreplace(loads, (load + lengths[index], share))
    return shares


def _pack(share: Sequence[int], lengths: Sequence[int], max_tokens: int) -> list[list[int]]:
    bins = best_fit_bins([lengths[index] for index in share], max_tokens)
    return [[share[member] for member in members] for members in bins]


def _level(
    share: Sequence[int], bins: list[list[int]], lengths: Sequence[int], num_bins: int, max_tokens: int
) -> list[list[int]]:
    """The share in `num_bins` micro-batches of even size, or as packed plus empty ones where evenness
    overflows."""
    even = _spread(share, lengths, num_bins)
    if all(sum(lengths[index] for index in members) <= max_tokens for members in even):
        return even
    return bins + [[] for _ in range(num_bins - len(bins))]
