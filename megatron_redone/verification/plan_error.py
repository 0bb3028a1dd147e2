"""How far the planner's memory is from a trace of the real code, over presets and layouts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context

from megatron_redone.config.loading import apply_overrides, validate
from megatron_redone.models.presets import get_preset
from megatron_redone.parallel.config import ParallelConfig
from megatron_redone.planning.memory import Workload, rank_memory

LIMIT = 0.05
"""The error that the planner is held to."""


@dataclass(frozen=True)
class PlanCase:
    """One preset on one layout."""

    preset: str
    layout: str
    world_size: int
    sequence_length: int
    pipeline_rank: int = 0

    def parallel(self) -> ParallelConfig:
        """The layout, in bf16."""
        words = [word for word in self.layout.split(",") if word]
        return validate(ParallelConfig, apply_overrides({"precision": "bf16"}, words), "layout of a plan")


@dataclass(frozen=True)
class PlanError:
    """Bytes that tensors take, as expected and as traced."""

    case: PlanCase
    expected_static: int
    traced_static: int
    expected: int
    traced: int

    @property
    def error(self) -> float:
        """Expected over traced peak, less one."""
        return self.expected / self.traced - 1


ZERO = "distributed_optimizer=true"
DENSE_LAYOUTS = (
    ("tp=1", 8, 4096, 0),
    ("tp=2", 8, 4096, 0),
    ("tp=4,sequence_parallel=true", 64, 16_384, 0),
    ("tp=2,pp=2,sequence_parallel=true", 16, 8192, 0),
    ("tp=2,pp=2,sequence_parallel=true", 16, 8192, 1),
    ("tp=1,recompute=full", 8, 8192, 0),
    ("tp=4,pp=4,sequence_parallel=true,recompute=full", 512, 16_384, 0),
)
EXPERT_LAYOUTS = (("ep=8,pp=8", 64, 4096, 0), ("ep=8,pp=8", 64, 4096, 7), ("ep=32,pp=8,recompute=full", 256, 8192, 0))


def cases() -> list[PlanCase]:
    """The models of both papers on layouts of 8 to 512 ranks, all with the distributed optimizer."""
    dense = ("qwen3-4b", "qwen2.5-7b", "qwen3-8b", "qwen2.5-32b", "qwen3-32b")
    found = [PlanCase(name, f"{layout},{ZERO}", *rest) for name in dense for layout, *rest in DENSE_LAYOUTS]
    return found + [PlanCase("qwen3-30b-a3b", f"{layout},{ZERO}", *rest) for layout, *rest in EXPERT_LAYOUTS]


def measure_error(case: PlanCase) -> PlanError:
    """Traces one case in this process, whose global state it changes (see `memory_trace`)."""
    from megatron_redone.verification.memory_trace import trace_memory

    shape, parallel = get_preset(case.preset), case.parallel()
    traced = trace_memory(shape, parallel, case.world_size, case.sequence_length, pipeline_rank=case.pipeline_rank)
    replicas = parallel.data_parallel_size(case.world_size)
    work = Workload(case.sequence_length, 2 * parallel.pp * replicas)
    memory = rank_memory(shape, parallel, case.world_size, work, case.pipeline_rank)
    return PlanError(case, memory.static, traced.static, memory.tensors, traced.peak)


def measure_errors(chosen: Sequence[PlanCase]) -> Iterator[PlanError]:
    """Each case in a process of its own, one after the other."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn"), max_tasks_per_child=1) as pool:
        yield from pool.map(measure_error, chosen)
