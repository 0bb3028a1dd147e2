"""The resume certificate over the chosen pairs of layouts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import pytest
import torch.distributed as dist

from megatron_redone.parallel.config import ParallelConfig
from megatron_redone.parallel.context import ParallelContext, build_context
from megatron_redone.verification.cases import chosen_resumes, parse_resume
from megatron_redone.verification.config import ResumeCase
from megatron_redone.verification.faults import RESUME_FAULTS
from megatron_redone.verification.resume import Certificate, certificates, run_on_this_rank
from tests.distributed.ranks import run_on_ranks

pytestmark = pytest.mark.distributed


def run_side(
    rank: int,
    world_size: int,
    store_file: str,
    cases: list[ResumeCase],
    side: Literal["save", "load"],
    folder: str,
    faults: list[str | None],
) -> None:
    store = dist.FileStore(store_file, world_size)

    def context_of(layout: ParallelConfig) -> ParallelContext:
        return build_context(layout, rank=rank, world_size=world_size, store=store)

    run_on_this_rank(cases, side, Path(folder), context_of, faults)
    dist.barrier()


def certify(
    cases: list[ResumeCase], sizes: tuple[int, int], folder: Path, faults: Sequence[str | None] = ()
) -> list[Certificate]:
    for side, size in zip(("save", "load"), sizes, strict=True):
        store = folder / side
        store.mkdir()
        run_on_ranks(run_side, size, store, cases, side, str(folder), list(faults))
    return list(certificates(cases, folder))


def failures(found: Sequence[Certificate]) -> list[str]:
    return [f"{result.case}: {result.first_difference}" for result in found if not result.passed]


@pytest.mark.parametrize("steps_elsewhere", [5, pytest.param(20, marks=pytest.mark.slow)])
@pytest.mark.parametrize("sizes", [(2, 2), (1, 2), (2, 1)])
def test_a_resume_goes_on_as_if_nothing_had_happened(
    sizes: tuple[int, int], steps_elsewhere: int, tmp_path: Path
) -> None:
    """20 steps on the same layout; on another one the state matters, and a few steps tell whether it is used."""
    cases = [
        case if case.same_layout else case.model_copy(update={"steps_after": steps_elsewhere})
        for case in chosen_resumes()
        if (case.layout_case("save").world_size, case.layout_case("load").world_size) == sizes
    ]
    assert cases
    found = certify(cases, sizes, tmp_path)
    assert failures(found) == []
    assert all(result.num_tensors > 100 for result in found)
    assert all(result.loss_error == 0 for result in found if result.same_layout)


def test_planted_faults_are_found_and_their_controls_pass(tmp_path: Path) -> None:
    cases = [parse_resume(fault.case).model_copy(update={"steps_after": 3}) for fault in RESUME_FAULTS.values()]
    found = certify([*cases, *cases], (2, 2), tmp_path, [*RESUME_FAULTS, *([None] * len(cases))])
    broken, controls = found[: len(cases)], found[len(cases) :]
    assert failures(controls) == []
    for name, certificate in zip(RESUME_FAULTS, broken, strict=True):
        assert not certificate.passed and certificate.first_difference, name
