"""The layout proof over the chosen set, and over all of it in the slow tests."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch.distributed as dist

from megatron_redone.parallel.config import ParallelConfig
from megatron_redone.parallel.context import ParallelContext, build_context
from megatron_redone.verification.cases import all_cases, chosen_cases, parse_case
from megatron_redone.verification.config import LayoutCase
from megatron_redone.verification.faults import FAULTS
from megatron_redone.verification.layout import OBJECTIVES, Comparison
from megatron_redone.verification.ranks import compare_with_one_process, run_on_this_rank
from tests.distributed.ranks import run_on_ranks

pytestmark = pytest.mark.distributed
Prove = Callable[..., list[Comparison]]


def run_cases(
    rank: int, world_size: int, store_file: str, cases: list[LayoutCase], folder: str, faults: list[str | None]
) -> None:
    store = dist.FileStore(store_file, world_size)

    def context_of(layout: ParallelConfig) -> ParallelContext:
        return build_context(layout, rank=rank, world_size=world_size, store=store)

    run_on_this_rank(cases, Path(folder), context_of, faults)
    dist.barrier()


@pytest.fixture
def prove(tmp_path: Path, parallel_context: ParallelContext) -> Prove:
    def run(cases: Sequence[LayoutCase], faults: Sequence[str | None] = ()) -> list[Comparison]:
        (size,) = {case.world_size for case in cases}
        run_on_ranks(run_cases, size, tmp_path, list(cases), str(tmp_path), list(faults))
        return list(compare_with_one_process(cases, tmp_path))

    return run


def failures(comparisons: Sequence[Comparison]) -> list[str]:
    return [f"{result.case}: {result.first_difference}" for result in comparisons if not result.passed]


@pytest.mark.parametrize("world_size", [2, 4])
def test_chosen_layouts_equal_one_process(world_size: int, prove: Prove) -> None:
    cases = [case for case in chosen_cases() if case.world_size == world_size]
    assert len(cases) >= 15
    assert failures(prove(cases)) == []


def test_the_chosen_set_covers_every_axis_and_option() -> None:
    cases = chosen_cases()
    assert len({case.line for case in cases}) == len(cases) >= 60
    assert {case.objective for case in cases} == set(OBJECTIVES)
    for family in ("llama", "qwen2_5", "qwen3", "qwen3_moe"):
        of_family = [case for case in cases if case.family == family]
        assert {case.objective for case in of_family} >= {"next_token", "dpo", "dapo"}
        for axis in ("tp", "pp", "vpp", "cp"):
            assert any(getattr(case.layout, axis) > 1 for case in of_family), (family, axis)
        assert any(case.layout.distributed_optimizer and case.layout.overlap for case in of_family), family


def test_planted_faults_are_found_and_their_controls_pass(prove: Prove) -> None:
    cases = [parse_case(fault.case) for fault in FAULTS.values()]
    comparisons = prove([*cases, *cases], [*FAULTS, *([None] * len(FAULTS))])
    broken, controls = comparisons[: len(cases)], comparisons[len(cases) :]
    assert failures(controls) == []
    for name, comparison in zip(FAULTS, broken, strict=True):
        assert not comparison.passed and comparison.first_difference, name


@pytest.mark.slow
@pytest.mark.parametrize("world_size", [2, 4, 8])
def test_all_layouts_equal_one_process(world_size: int, prove: Prove) -> None:
    assert failures(prove([case for case in all_cases() if case.world_size == world_size])) == []
