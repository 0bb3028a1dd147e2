"""Published times of reinforcement learning as data, and what the planner expects of each from the others.

A step draws answers, reads them once with the policy and once with the reference, trains on them and gives the engines
the new weights. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from megatron_redone.models.config import ModelShape
from megatron_redone.models.presets import get_preset
from megatron_redone.parallel.config import ParallelConfig
from megatron_redone.planning.fit import fit_one
from megatron_redone.planning.hardware import Accelerator, get_accelerator
from megatron_redone.planning.memory import Workload
from megatron_redone.planning.rollout import Drawing, RolloutEngines, plan_rollout, sync_seconds
from megatron_redone.planning.throughput import step_time

FIRST_SHARE, SPREAD = 0.5, 1.5
"""What drawing reaches of the memory bandwidth before anything was measured, and the factor it may be off."""
PROMPT = 110
"""Mean tokens of a prompt: what the records' tokens a second leave beside their answers."""


@dataclass(frozen=True)
class RLRecord:
    """A measured step; the source tells model, GPUs, lengths, batches and both layouts."""

    name: str
    shape: ModelShape
    world_size: int
    responses: int
    response_tokens: int
    """Mean."""
    longest_tokens: int
    updates: int
    generator_ranks: int
    parallel: ParallelConfig
    seconds: float
    imbalance: float = 1.0


def _layout(**settings: object) -> ParallelConfig:
    return ParallelConfig.model_validate(
        {"precision": "bf16", "distributed_optimizer": True, "overlap": True, **settings}
    )


SOURCE = "NeMo RL performance summary, v0.4: GRPO on policy, H100, bf16, OpenMathInstruct-2"
MEMORY_SHARE = 0.6
"""Of a GPU for vLLM, as its recipes have it."""
RL_RECORDS = (
    RLRecord("Llama-3.1-8B, 16 GPUs", get_preset("llama-3-8b"), 16, 2048, 1060, 4096, 4, 1, _layout(pp=2), 97.7),
    RLRecord(
        "Qwen3-30B-A3B, 32 GPUs", get_preset("qwen3-30b-a3b"), 32, 2048, 3154, 4096, 4, 4,
        _layout(tp=2, ep=8, sequence_parallel=True), 225, 1.7,
    ),
    RLRecord(
        "Qwen3-32B, 32 GPUs", get_preset("qwen3-32b"), 32, 2048, 3206, 4096, 4, 4,
        _layout(tp=4, pp=4, sequence_parallel=True), 393,
    ),
    RLRecord(
        "Qwen3-235B-A22B, 128 GPUs", get_preset("qwen3-235b-a22b"), 128, 512, 5671, 8192, 1, 16,
        _layout(tp=2, cp=2, ep=16, pp=8, sequence_parallel=True), 506, 1.7,
    ),
)  # fmt: skip


@dataclass(frozen=True)
class RLStep:
    """Seconds of one step by part."""

    drawing: float
    passes: float
    training: float
    weights: float

    @property
    def seconds(self) -> float:
        """Of all."""
        return self.drawing + self.passes + self.training + self.weights


@dataclass(frozen=True)
class RLRecordError:
    """A record beside what was expected of it."""

    record: RLRecord
    share: float
    """Of the memory bandwidth, from the other records."""
    expected: RLStep

    @property
    def ratio(self) -> float:
        """Expected over measured time."""
        return self.expected.seconds / self.record.seconds


def expect_step(record: RLRecord, share: float) -> RLStep:
    """What the planner says of a record's step when drawing reaches this share of the memory bandwidth."""
    gpu: Accelerator = replace(get_accelerator("h100"), rollout_share=share)
    shape, ranks = record.shape, record.generator_ranks
    engines = RolloutEngines(ranks, record.world_size // ranks, MEMORY_SHARE * gpu.memory_bytes, 1024)
    drawing = Drawing(record.responses, PROMPT, record.response_tokens, record.longest_tokens)
    drawn = plan_rollout(shape, gpu, engines, drawing, record.longest_tokens).seconds
    length = PROMPT + record.response_tokens
    replicas = record.parallel.data_parallel_size(record.world_size)
    rows = -(-record.responses // record.updates * length // record.longest_tokens)
    work = Workload(record.longest_tokens, -(-rows // replicas) * replicas, length, expert_imbalance=record.imbalance)
    step = step_time(shape, record.parallel, record.world_size, work, gpu)
    passes = 2 * record.updates * (step.seconds - step.update) / 3
    weights = sync_seconds(shape, gpu, engines, asleep=True)
    return RLStep(drawn, passes, record.updates * step.seconds, weights)


def fit_share(records: Sequence[RLRecord]) -> float:
    """The share of the memory bandwidth at which the records come out best."""
    return fit_one(
        lambda share, place: expect_step(records[place], share).seconds / records[place].seconds,
        len(records),
        first=FIRST_SHARE,
        spread=SPREAD,
    )


def leave_one_out_steps(records: Sequence[RLRecord] = RL_RECORDS) -> list[RLRecordError]:
    """Each record as expected from all others."""
    result = []
    for record in records:
        share = fit_share([other for other in records if other is not record])
        result.append(RLRecordError(record, share, expect_step(record, share)))
    return result
