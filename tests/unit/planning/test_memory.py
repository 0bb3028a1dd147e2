"""Memory by part: against sums by hand, and how it must move with the layout."""

from __future__ import annotations

import subprocess
import sys

import pytest

from megatron_redone.models.presets import get_preset
from megatron_redone.parallel.config import ParallelConfig
from megatron_redone.planning.memory import Workload, in_flight, rank_memory, rank_parameters

PAPERS = ("qwen2.5-7b", "qwen2.5-32b", "qwen3-4b", "qwen3-8b", "qwen3-32b", "qwen3-30b-a3b")
WORK = Workload(4096, 64)


def layout(**settings: object) -> ParallelConfig:
    return ParallelConfig.model_validate({"precision": "bf16", "distributed_optimizer": True, **settings})


@pytest.mark.parametrize("name", PAPERS)
@pytest.mark.parametrize("pp", [1, 2, 4])
def test_parameters_of_all_stages_are_those_of_the_model(name: str, pp: int) -> None:
    shape = get_preset(name)
    stages = [rank_parameters(shape, layout(pp=pp), stage) for stage in range(pp)]
    copies = shape.vocab_size * shape.hidden_size if shape.tie_embeddings and pp > 1 else 0  # of a tied embedding
    assert sum(own.dense + own.experts for own in stages) - copies == shape.num_parameters()


def test_tensor_parallel_ranks_share_matrices_and_copy_norms() -> None:
    shape = get_preset("qwen3-8b")
    norms = shape.num_layers * (2 * shape.hidden_size + 2 * shape.head_dim) + shape.hidden_size
    own = rank_parameters(shape, layout(tp=4), 0)
    assert 4 * (own.dense - norms) + norms == shape.num_parameters()


def test_static_memory_is_2_4_and_12_bytes_a_parameter() -> None:
    shape = get_preset("qwen3-8b")
    whole = rank_memory(shape, layout(distributed_optimizer=False), 8, WORK)
    n = shape.num_parameters()
    assert (whole.weights, whole.gradients, whole.optimizer) == (2 * n, 4 * n, 12 * n)
    assert rank_memory(shape, layout(), 8, WORK).optimizer == 12 * n // 8


@pytest.mark.parametrize(
    ("less", "more"),
    [
        ({"tp": 2}, {}),
        ({"tp": 2, "sequence_parallel": True}, {"tp": 2}),
        ({"pp": 2, "tp": 2}, {"tp": 2}),
        ({"cp": 2, "recompute": "full"}, {"recompute": "full"}),
        ({"recompute": "full"}, {}),
        ({}, {"distributed_optimizer": False}),
    ],
)
@pytest.mark.parametrize("name", ["qwen2.5-7b", "qwen3-8b"])
def test_memory_falls(name: str, less: dict[str, object], more: dict[str, object]) -> None:
    shape = get_preset(name)
    assert rank_memory(shape, layout(**less), 16, WORK).total < rank_memory(shape, layout(**more), 16, WORK).total


def test_experts_are_spread() -> None:
    shape = get_preset("qwen3-30b-a3b")
    one, eight = (rank_parameters(shape, layout(ep=ep), 0) for ep in (1, 8))
    assert one.experts == 8 * eight.experts and one.dense == eight.dense
    even, uneven = (rank_memory(shape, layout(ep=8), 8, Workload(4096, 64, expert_imbalance=f)) for f in (1.0, 2.0))
    assert uneven.activations > even.activations


def test_parts_add_up() -> None:
    for stage in range(4):
        memory = rank_memory(get_preset("qwen3-32b"), layout(pp=4, tp=4), 32, WORK, stage, reserved=7)
        parts = memory.weights + memory.gradients + memory.optimizer + memory.activations + memory.logits
        parts += memory.workspace + memory.communication + memory.fragmentation + memory.reserved
        assert parts == memory.total and memory.reserved == 7
        assert memory.total - memory.fragmentation - 7 == memory.tensors


def test_pipeline_stages_hold_what_the_schedule_runs_ahead() -> None:
    assert [in_flight(layout(pp=4), stage, 16) for stage in range(4)] == [4, 3, 2, 1]
    assert in_flight(layout(pp=4), 0, 2) == 2
    assert in_flight(layout(pp=4, vpp=2), 0, 16) == (2 * 3 + 4 + 1) / 2


def test_planning_needs_no_torch() -> None:
    program = (
        "import sys, megatron_redone.planning.search, megatron_redone.planning.records, megatron_redone.planning.pages;"
        "import megatron_redone.cli.plan; raise SystemExit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
