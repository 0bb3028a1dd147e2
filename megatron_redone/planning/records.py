"""Published speeds of training as data, and what the planner expects of each from all others. Imports no torch.

All are of H100 in bf16 and name layout and batch; where one does not, its source says what is ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from megatron_redone.models.config import ModelShape
from megatron_redone.models.flops import training_flops
from megatron_redone.models.presets import get_preset
from megatron_redone.parallel.config import ParallelConfig
from megatron_redone.planning.fit import Fitted, fit
from megatron_redone.planning.hardware import Accelerator, get_accelerator
from megatron_redone.planning.memory import Workload
from megatron_redone.planning.throughput import OURS, Practice, StepTime, row_lengths, step_time

BRIDGE = "Megatron-Bridge, model verification card"
GRAPHS = Practice(expert_hidden=0.5, once_per_node=True, captured=True)
"""HybridEP with overlap of the experts' traffic and CUDA graphs of the router; the share hidden is an assumption."""
DEEP_EP = Practice(once_per_node=True)
TP_OVERLAP = Practice(tensor_hidden=0.8, captured=True)
"""Megatron's overlap of tensor-parallel traffic; the share hidden is an assumption."""


@dataclass(frozen=True)
class Record:
    """A measured speed with what is known of its run."""

    name: str
    shape: ModelShape
    world_size: int
    parallel: ParallelConfig
    work: Workload
    tokens_per_second: float
    """Of one rank."""
    source: str
    practice: Practice = OURS
    natural: bool = False
    """Natural routing: the imbalance of experts is not known, and fitted."""
    calibrates: bool = True
    """Whether it may set the figures of others: nothing known to spoil it, nothing essential assumed."""
    gpu: str = "h100"

    @property
    def mfu(self) -> float:
        """By our count of operations."""
        row = training_flops(self.shape, row_lengths(self.work), self.work.sequence_length)
        return self.tokens_per_second * row / self.work.sequence_length / get_accelerator(self.gpu).peak


def _layout(**settings: object) -> ParallelConfig:
    return ParallelConfig.model_validate(
        {"precision": "bf16", "distributed_optimizer": True, "overlap": True, **settings}
    )


def _gpt(layers: int, hidden: int, heads: int) -> ModelShape:
    """A GPT-3 with its 4 h wide MLP as a gated one of as many operations; vocabulary as Megatron-LM's runs had it."""
    return ModelShape(
        family="llama", num_layers=layers, hidden_size=hidden, ffn_hidden_size=8 * hidden // 3, num_heads=heads,
        num_kv_heads=heads, head_dim=hidden // heads, vocab_size=131_072,
    )  # fmt: skip


def _of_mfu(shape: ModelShape, mfu: float, sequence_length: int) -> float:
    """Tokens a second of a rank at an MFU whose operations count the whole square of attention (Megatron-LM)."""
    pairs = sequence_length * (sequence_length - 1) / 2
    square = 3 * shape.num_layers * 4.0 * shape.num_heads * shape.head_dim * pairs
    row = training_flops(shape, [sequence_length], sequence_length) + square
    return mfu * get_accelerator("h100").peak * sequence_length / row


QWEN3_8B, QWEN3_30B = get_preset("qwen3-8b"), get_preset("qwen3-30b-a3b")
GPT_175B, GPT_462B = _gpt(96, 12_288, 96), _gpt(112, 18_432, 144)
CHAT = 600
"""Mean tokens of a document of packed SFT, an assumption."""

RECORDS = (
    Record(
        "Qwen3-8B pretraining", QWEN3_8B, 16, _layout(), Workload(4096, 1024), 10_456, BRIDGE, Practice(captured=True)
    ),
    Record(
        "GPT-3 175B, 96 GPUs", GPT_175B, 96, _layout(tp=8, pp=12, vpp=4, sequence_parallel=True), Workload(4096, 1152),
        _of_mfu(GPT_175B, 0.47, 4096), "Megatron-LM README, MFU 47%; tp, pp, vpp ours", TP_OVERLAP,
    ),
    Record(
        "GPT-3 175B, 4,608 GPUs", GPT_175B, 4608, _layout(tp=8, pp=12, vpp=4, sequence_parallel=True),
        Workload(4096, 1152), _of_mfu(GPT_175B, 0.42, 4096), "Megatron-LM README, MFU 42%; tp, pp, vpp ours",
        TP_OVERLAP,
    ),
    Record(
        "Qwen3-30B-A3B pretraining, forced balance", QWEN3_30B, 16, _layout(ep=16), Workload(4096, 1024), 13_011,
        BRIDGE, GRAPHS,
    ),
    Record(
        "Qwen3-30B-A3B pretraining, forced balance, 8 GPUs", QWEN3_30B, 8, _layout(ep=8), Workload(16_384, 128, 4096),
        12_040, "NeMo AutoModel performance summary; four rows of 4,096 in a micro-batch", DEEP_EP,
    ),
    Record(
        "Qwen3-30B-A3B pretraining, natural routing", QWEN3_30B, 16, _layout(ep=16), Workload(4096, 1024), 8_655,
        BRIDGE, GRAPHS, natural=True,
    ),
    Record(
        "Qwen3-30B-A3B packed SFT at 2K, natural routing", QWEN3_30B, 16, _layout(ep=16), Workload(2048, 32, CHAT),
        3_395, BRIDGE, natural=True,
    ),
    Record(
        "Qwen3-8B packed SFT at 2K", QWEN3_8B, 4, _layout(tp=4, overlap=False), Workload(2048, 32, CHAT), 2_207,
        f"{BRIDGE}: not tuned",
    ),
    Record(
        "dense GPT 462B, 6,144 GPUs", GPT_462B, 6144, _layout(tp=8, pp=16, vpp=7, sequence_parallel=True),
        Workload(4096, 1536), _of_mfu(GPT_462B, 0.475, 4096),
        "Megatron-LM README, MFU 47 to 48%; its shape from its size, layout and batch ours", TP_OVERLAP,
        calibrates=False,
    ),
    Record(
        "Llama-3.1-8B pretraining at 8K, FSDP, 128 GPUs", get_preset("llama-3-8b"), 128, _layout(recompute="selective"),
        Workload(16_384, 128, 8192), 6_514,
        "torchtitan, compiled; H100 of 500 W with HBM2e, whose peaks are lower than our profile's",
        Practice(captured=True), calibrates=False,
    ),
    Record(
        "Qwen3-8B packed SFT at 32K", QWEN3_8B, 8, _layout(tp=4, cp=2, sequence_parallel=True),
        Workload(32_768, 8, CHAT), 457, f"{BRIDGE}: not tuned", calibrates=False,
    ),
    Record(
        "Qwen3-30B-A3B packed SFT at 32K, natural routing", QWEN3_30B, 16,
        _layout(tp=8, cp=2, ep=8, sequence_parallel=True, recompute="full"), Workload(32_768, 32, CHAT), 459, BRIDGE,
        DEEP_EP, natural=True, calibrates=False,
    ),
)  # fmt: skip


@dataclass(frozen=True)
class RecordError:
    """A record beside what was expected of it."""

    record: Record
    fitted: Fitted
    """From the other records."""
    expected: StepTime

    @property
    def ratio(self) -> float:
        """Expected over measured speed."""
        return self.expected.tokens_per_second_per_rank / self.record.tokens_per_second


def expect(record: Record, fitted: Fitted) -> StepTime:
    """What these figures say of a record's run."""
    gpu: Accelerator = replace(get_accelerator(record.gpu), kernels=fitted.kernels())
    work = replace(record.work, expert_imbalance=fitted.imbalance if record.natural else 1.0)
    return step_time(record.shape, record.parallel, record.world_size, work, gpu, record.practice)


def fit_records(records: Sequence[Record]) -> Fitted:
    """The figures at which those of the records that calibrate come out best."""
    chosen = [record for record in records if record.calibrates]
    return fit(
        lambda fitted, place: RecordError(chosen[place], fitted, expect(chosen[place], fitted)).ratio, len(chosen)
    )


def leave_one_out(records: Sequence[Record] = RECORDS) -> list[RecordError]:
    """Each record as expected from all others: it never calibrates its own prediction."""
    result = []
    for record in records:
        fitted = fit_records([other for other in records if other is not record])
        result.append(RecordError(record, fitted, expect(record, fitted)))
    return result
