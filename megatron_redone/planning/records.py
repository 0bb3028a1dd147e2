"""Published speeds, as data, and what the planner expects of them without having seen them. Imports no torch."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace

from megatron_redone.models.presets import get_preset
from megatron_redone.parallel.config import ParallelConfig
from megatron_redone.planning.hardware import Accelerator, get_accelerator
from megatron_redone.planning.memory import Workload
from megatron_redone.planning.throughput import StepTime, step_time


@dataclass(frozen=True)
class Record:
    """A measured speed with what is known of its run. Layout and batch are ours where the record tells none."""

    name: str
    preset: str
    gpu: str
    world_size: int
    parallel: ParallelConfig
    work: Workload
    mfu: float
    calibrates: bool
    """Whether it may set the efficiency of others: dense matrices, nothing known to spoil it."""
    source: str


def _layout(**settings: object) -> ParallelConfig:
    return ParallelConfig.model_validate(
        {"precision": "bf16", "distributed_optimizer": True, "overlap": True, **settings}
    )


RECORDS = (
    Record(
        "Qwen3-8B pretraining", "qwen3-8b", "h100", 8, _layout(tp=1), Workload(4096, 128), 0.518, True,
        "Megatron-Bridge, 10,456 tokens/s/GPU; layout and batch assumed",
    ),
    Record(
        "dense GPT, 6,144 GPUs", "llama-3-70b", "h100", 6144, _layout(tp=8, pp=8, vpp=5, sequence_parallel=True),
        Workload(4096, 6144), 0.475, True,
        "Megatron-LM, 47 to 48%; its shape, layout and batch are not published with it: Llama-3-70B in their place",
    ),
    Record(
        "Qwen3-30B-A3B pretraining, forced balance", "qwen3-30b-a3b", "h100", 16, _layout(tp=1, ep=8),
        Workload(4096, 512), 0.303, False, "Megatron-Bridge, 13,011 tokens/s/GPU; layout and batch assumed",
    ),
    Record(
        "Qwen3-30B-A3B packed SFT at 2K, natural routing", "qwen3-30b-a3b", "h100", 16, _layout(tp=1, ep=8),
        Workload(2048, 512), 0.065, False, "users of Megatron-Bridge; layout and batch assumed",
    ),
    Record(
        "Qwen3-30B-A3B packed SFT at 32K, natural routing", "qwen3-30b-a3b", "h100", 16,
        _layout(tp=2, cp=2, ep=8, sequence_parallel=True), Workload(32_768, 64), 0.026, False,
        "users of Megatron-Bridge; layout and batch assumed",
    ),
)  # fmt: skip


@dataclass(frozen=True)
class RecordError:
    """A record beside what was expected of it."""

    record: Record
    efficiency: float
    """Of dense matrices, from the other records."""
    expected: StepTime

    @property
    def ratio(self) -> float:
        """Expected over measured MFU."""
        return self.expected.mfu / self.record.mfu


def calibrated_efficiency(records: Sequence[Record]) -> float:
    """The median of the efficiencies at which each calibrating record comes out right.

    Raises:
        ValueError: none of them calibrates.
    """
    found = [_solve(record) for record in records if record.calibrates]
    if not found:
        raise ValueError("no record that calibrates: give at least one dense one")
    return statistics.median(found)


def leave_one_out(records: Sequence[Record] = RECORDS) -> list[RecordError]:
    """Each record's MFU as expected from all others: it never calibrates its own prediction."""
    result = []
    for record in records:
        efficiency = calibrated_efficiency([other for other in records if other is not record])
        result.append(RecordError(record, efficiency, _expect(record, efficiency)))
    return result


def _expect(record: Record, efficiency: float) -> StepTime:
    gpu: Accelerator = replace(get_accelerator(record.gpu), efficiency=efficiency)
    return step_time(get_preset(record.preset), record.parallel, record.world_size, record.work, gpu)


def _solve(record: Record) -> float:
    """The efficiency that gives the record's MFU (time falls with it, so by halving)."""
    low, high = 0.01, 1.5
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if _expect(record, middle).mfu < record.mfu else (low, middle)
    return (low + high) / 2
