"""The resume certificate over the chosen pairs of layouts."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest
import torch.distributed as dist

from megatron_redone.parallel.config import ParallelConfig
from megatron_redone.parallel.context import ParallelContext, build_context
from megatron_redone.verification.cases import chosen_resumes
from megatron_redone.verification.config import ResumeCase
from megatron_redone.verification.resume import certificates, run_on_this_rank
from tests.distributed.ranks import run_on_ranks

pytestmark = pytest.mark.distributed


def run_side(
    rank: int, world_size: int, store_file: str, cases: list[ResumeCase], side: Literal["save", "load"], folder: str
) -> None:
    store = dist.FileStore(store_file, world_size)

    def context_of(layout: ParallelConfig) -> ParallelContext:
        return build_context(layout, rank=rank, world_size=world_size, store=store)

    run_on_this_rank(cases, side, Path(folder), context_of)
    dist.barrier()


@pytest.mark.parametrize("sizes", [(2, 2), (1, 2), (2, 1)])
def test_a_resume_goes_on_as_if_nothing_had_happened(sizes: tuple[int, int], tmp_path: Path) -> None:
    cases = [
        case
        for case in chosen_resumes()
        if (case.layout_case("save").world_size, case.layout_case("load").world_size) == sizes
    ]
    assert cases
    for side, size in zip(("save", "load"), sizes, strict=True):
        store = tmp_path / side
        store.mkdir()
        run_on_ranks(run_side, size, store, cases, side, str(tmp_path))
    found = list(certificates(cases, tmp_path))
    assert [f"{result.case}: {result.first_difference}" for result in found if not result.passed] == []
    assert all(result.num_tensors > 100 for result in found)
