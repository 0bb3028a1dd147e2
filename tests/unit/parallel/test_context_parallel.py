"""The split of a row over context-parallel ranks."""

from __future__ import annotations

import pytest
import torch

from megatron_redone.models.attention import _spans_here
from megatron_redone.parallel.context_parallel import chunk_ranges, local_index, row_multiple, row_order


@pytest.mark.parametrize("size", [1, 2, 4])
def test_ranks_together_hold_every_token_once_and_come_back_in_order(size: int) -> None:
    num_tokens = 6 * row_multiple(size)
    parts = [local_index(num_tokens, size, rank) for rank in range(size)]
    assert len({part.numel() for part in parts}) == 1
    joined = torch.cat(parts)
    assert joined[row_order(num_tokens, size)].tolist() == list(range(num_tokens))


@pytest.mark.parametrize("size", [2, 4, 8])
def test_ranks_have_the_same_work_in_one_long_document(size: int) -> None:
    work = {int((local_index(16 * size, size, rank) + 1).sum()) for rank in range(size)}
    assert len(work) == 1


def test_a_row_that_does_not_divide_is_refused() -> None:
    with pytest.raises(ValueError, match="10 tokens cannot be split over cp=2; pad to 4"):
        chunk_ranges(10, 2, 0)


def test_cut_and_whole_documents_cover_the_tokens_of_a_rank() -> None:
    lengths = [5, 3, 9, 1, 6]
    for size in (1, 2, 3):
        for rank in range(size):
            whole, cut = _spans_here(lengths, size, rank)
            covered = sorted(
                token
                for start, stop in [
                    *((start, start + length) for start, length in whole),
                    *((part.queries.start, part.queries.stop) for part in cut),
                ]
                for token in range(start, stop)
            )
            assert covered == list(range(24 // size))
            assert all(part.keys.stop - part.keys.start >= part.queries.stop - part.queries.start for part in cut)
            assert cut == [] or size > 1
