"""Throughput of training: the engine's own step on packed rows, against the matrix products this machine reaches.

A step is what training stages do: documents to micro-batches, forward, backward, gradient reduction, optimizer.
"""

from __future__ import annotations

import resource
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from megatron_redone.benchmarks.config import TrainBenchmarkConfig
from megatron_redone.benchmarks.peak import matmul_peak
from megatron_redone.benchmarks.peer import TransformersPeer
from megatron_redone.benchmarks.profile import time_by_part
from megatron_redone.benchmarks.rows import benchmark_engine, benchmark_rows
from megatron_redone.data.document import Document
from megatron_redone.models.flops import training_flops
from megatron_redone.objectives.next_token import NextToken
from megatron_redone.parallel.context import ParallelContext
from megatron_redone.training.batches import microbatches_of
from megatron_redone.training.engine import MegatronEngine
from megatron_redone.training.parts import DATA

LEARNING_RATE = 1e-5
MIB = 2**20


@dataclass
class StepRecord:
    """One measured step; tokens and operations are those of all replicas together, seconds those of rank 0."""

    seconds: float
    cpu_seconds: float
    real_tokens: int
    """Tokens that are no padding."""
    total_tokens: int
    """Tokens with the padding that fills each row."""
    labelled_tokens: int
    flops: float
    loss: float
    documents: int = 0
    peer_seconds: float | None = None
    peer_cpu_seconds: float | None = None


@dataclass
class RankRecord:
    """What one rank takes and can."""

    weights_mib: float
    gradients_mib: float
    optimizer_mib: float
    peak_mib: float
    """Largest memory of the process (CPU: resident) or allocated on the device."""
    matmul_flops: float


@dataclass
class TrainResult:
    """A measurement, for the table and the JSON file."""

    parameters: int
    active_parameters: int
    world_size: int
    threads: int
    device: str
    steps: list[StepRecord]
    ranks: list[RankRecord]
    shape: dict[str, Any] = field(default_factory=dict)
    """Of the model."""
    parts: dict[str, float] = field(default_factory=dict)
    """Share of a step's time by part (see `training/parts.py`); `communication` overlaps the others."""

    def summary(self) -> dict[str, float]:
        """Medians over steps: tokens and operations a second, share of the matmul peak, the peer's ratio."""

        def median(of: Callable[[StepRecord], float]) -> float:
            return statistics.median(of(step) for step in self.steps)

        peak = sum(rank.matmul_flops for rank in self.ranks)
        flops = median(lambda step: step.flops / step.seconds)
        found = {
            "seconds_per_step": median(lambda step: step.seconds),
            "cpu_seconds_per_step": median(lambda step: step.cpu_seconds),
            "useful_tokens_per_second": median(lambda step: step.real_tokens / step.seconds),
            "total_tokens_per_second": median(lambda step: step.total_tokens / step.seconds),
            "labelled_tokens_per_second": median(lambda step: step.labelled_tokens / step.seconds),
            "model_flops_per_second": flops,
            "matmul_flops_per_second": peak,
            "share_of_matmul_peak": flops / peak,
        }
        if self.steps[0].peer_cpu_seconds is not None:
            found["peer_cpu_seconds_over_ours"] = median(lambda step: (step.peer_cpu_seconds or 0) / step.cpu_seconds)
            found["peer_seconds_over_ours"] = median(lambda step: (step.peer_seconds or 0) / step.seconds)
        return found


def benchmark_train(
    config: TrainBenchmarkConfig, context: ParallelContext, progress: Callable[[str], None] = lambda text: None
) -> TrainResult:
    """Measures training on this rank; every rank gets the result. A collective.

    Args:
        progress: is told what is done, on rank 0.
    Raises:
        DataError: the conversations cannot be read or do not fit into a row.
    """
    engine, tokenizer = benchmark_engine(config, context)
    batches = benchmark_rows(config, engine.shape, tokenizer, config.warmup + config.steps + config.profiled)
    peer = TransformersPeer(engine, context) if config.peer else None
    peaks = [matmul_peak(context.dtype, context.device)]
    steps = []
    for number in range(config.warmup + config.steps):
        record = _measured(engine, batches[number], config.sequence_length)
        if peer is not None:
            record.peer_seconds, record.peer_cpu_seconds = _timed(lambda rows=batches[number]: peer.step(rows), context)  # type: ignore[misc]
        if number >= config.warmup:
            steps.append(record)
        progress(
            f"step {number + 1} of {config.warmup + config.steps}: {record.real_tokens / record.seconds:,.0f} tokens/s"
        )
    context.barrier()
    peaks.append(matmul_peak(context.dtype, context.device))
    parts = {}
    if config.profiled:
        parts = time_by_part([lambda rows=rows: _step(engine, rows) for rows in batches[-config.profiled :]], context)  # type: ignore[misc]
    return TrainResult(
        parameters=engine.shape.num_parameters(),
        active_parameters=engine.shape.num_parameters(active=True),
        world_size=context.world_size,
        threads=torch.get_num_threads(),
        device=torch.cuda.get_device_name() if context.device.type == "cuda" else "cpu",
        steps=steps,
        ranks=context.gather_from_all(_rank_record(engine, max(peaks))),
        shape=engine.shape.model_dump(mode="json"),
        parts=parts,
    )


def _step(engine: MegatronEngine, rows: Sequence[Sequence[Document]]) -> dict[str, float]:
    with torch.profiler.record_function(DATA):
        batches = microbatches_of(rows, engine)
    return engine.train_step(batches, NextToken(), LEARNING_RATE)


def _measured(engine: MegatronEngine, rows: Sequence[Sequence[Document]], sequence_length: int) -> StepRecord:
    metrics: dict[str, float] = {}
    seconds, cpu_seconds = _timed(lambda: metrics.update(_step(engine, rows)), engine.context)
    documents = [document for row in rows for document in row]
    labelled = sum(sum(weight > 0 for weight in document.loss_mask[1:]) for document in documents)
    lengths = [len(document) for document in documents]
    return StepRecord(
        seconds=seconds,
        cpu_seconds=cpu_seconds,
        real_tokens=sum(lengths),
        total_tokens=len(rows) * sequence_length,
        labelled_tokens=labelled,
        flops=training_flops(engine.shape, lengths, labelled),
        loss=metrics["loss"],
        documents=len(documents),
    )


def _timed(action: Callable[[], Any], context: ParallelContext) -> tuple[float, float]:
    """Wall and processor seconds of this process."""
    context.barrier()
    _wait(context)
    wall, cpu = time.perf_counter(), time.process_time()
    action()
    _wait(context)
    return time.perf_counter() - wall, time.process_time() - cpu


def _wait(context: ParallelContext) -> None:
    if context.device.type == "cuda":
        torch.cuda.synchronize()


def _rank_record(engine: MegatronEngine, peak: float) -> RankRecord:
    on_cuda = engine.context.device.type == "cuda"
    unit = 1 if sys.platform == "darwin" else 1024  # getrusage counts KiB on Linux
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return RankRecord(
        weights_mib=sum(p.nbytes for p in engine.model.parameters().values()) / MIB,
        gradients_mib=sum(buffer.grad_data.nbytes for ddp in engine.ddp for buffer in _buffers(ddp)) / MIB,
        optimizer_mib=_optimizer_bytes(engine.optimizer) / MIB,
        peak_mib=(torch.cuda.max_memory_allocated() if on_cuda else resident) / MIB,
        matmul_flops=peak,
    )


def _buffers(ddp: Any) -> list[Any]:
    return [*ddp.buffers, *ddp.expert_parallel_buffers]


def _optimizer_bytes(optimizer: Any) -> int:
    """Moments, and the fp32 weights of bf16 training, which the inner optimizers' groups hold."""
    total = 0
    for part in getattr(optimizer, "chained_optimizers", [optimizer]):
        inner = part.optimizer
        if inner is None:
            continue
        total += sum(v.nbytes for state in inner.state.values() for v in state.values() if isinstance(v, torch.Tensor))
        own = getattr(part, "fp32_from_float16_groups", None) or getattr(part, "shard_fp32_from_float16_groups", [])
        total += sum(p.nbytes for group in own for p in group if p is not None)
    return total
