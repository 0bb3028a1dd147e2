"""Layouts of a model on so many ranks: which fit, which is fastest, and why. Imports no torch."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

from megatron_redone.models.config import ModelShape
from megatron_redone.parallel.config import ParallelConfig
from megatron_redone.planning.hardware import Accelerator
from megatron_redone.planning.memory import RankMemory, Workload, rank_memory
from megatron_redone.planning.throughput import StepTime, step_time

POWERS = (1, 2, 4, 8, 16, 32, 64, 128)


@dataclass(frozen=True)
class Planned:
    """One layout with what is expected of it."""

    parallel: ParallelConfig
    memory: tuple[RankMemory, ...]
    """Of each pipeline stage."""
    time: StepTime
    available: float
    """Bytes of a rank."""

    @property
    def fullest(self) -> RankMemory:
        """Of the stage that needs most."""
        return max(self.memory, key=lambda stage: stage.total)

    @property
    def fits(self) -> bool:
        """Whether every stage does, with the allowances."""
        return self.fullest.total <= self.available

    def layout(self) -> str:
        """The axes above 1 and the options, as `--layout` takes them."""
        p = self.parallel
        words = [
            f"{name}={getattr(p, name)}" for name in ("tp", "pp", "vpp", "cp", "ep", "etp") if getattr(p, name) > 1
        ]
        if p.sequence_parallel and p.tp > 1:
            words.append("sequence_parallel=true")
        words += ["distributed_optimizer=true"] if p.distributed_optimizer else []
        words += ["overlap=true"] if p.overlap else []
        words += [f"recompute={p.recompute}"] if p.recompute != "none" else []
        return ",".join(words) or "tp=1"

    def reasons(self) -> list[str]:
        """What limits this layout, most important first."""
        found = []
        over = self.fullest.total - self.available
        if over > 0:
            found.append(f"needs {over / 2**30:.1f} GiB more than a rank has")
        else:
            found.append(f"leaves {-over / 2**30:.1f} GiB of a rank free")
        time = self.time
        parts = {
            "pipeline bubble": time.bubble,
            "exposed communication": time.communication,
            "optimizer": time.update,
        }
        found += [
            f"{name} takes {seconds / time.seconds:.0%} of the step"
            for name, seconds in sorted(parts.items(), key=lambda item: -item[1])
            if seconds > 0.03 * time.seconds
        ]
        if self.parallel.recompute == "full":
            found.append("computes each layer's forward pass twice")
        return found


def plan_layout(
    shape: ModelShape, parallel: ParallelConfig, world_size: int, work: Workload, gpu: Accelerator
) -> Planned:
    """What is expected of one layout, which must fit model and ranks (`layout_problems`)."""
    stages = range(parallel.pp)
    memory = tuple(
        rank_memory(shape, parallel, world_size, work, stage, reserved=gpu.reserved_bytes) for stage in stages
    )
    return Planned(parallel, memory, step_time(shape, parallel, world_size, work, gpu), gpu.memory_bytes)


def layout_problems(shape: ModelShape, parallel: ParallelConfig, world_size: int, work: Workload) -> list[str]:
    """Why a layout cannot run; empty when it can."""
    axes = parallel.problems(world_size)
    if any("must be at least 1" in problem for problem in axes):
        return axes
    found = [*axes, *shape.layout_problems(parallel)]
    if found:
        return found
    replicas = parallel.data_parallel_size(world_size)
    if work.global_batch % replicas:
        found.append(f"a global batch of {work.global_batch} rows is not divisible by {replicas} replicas")
    multiple = (2 * parallel.cp if parallel.cp > 1 else 1) * parallel.tp
    if work.sequence_length % multiple:
        found.append(f"a row of {work.sequence_length} tokens is not divisible by {multiple} (2 cp tp)")
    return found


def candidates(
    shape: ModelShape, world_size: int, work: Workload, gpu: Accelerator, precision: str
) -> Iterator[ParallelConfig]:
    """Layouts worth looking at: tensor and expert groups inside a node, ZeRO-1, all recompute modes."""
    inside = [size for size in POWERS if size <= min(gpu.ranks_per_node, world_size)]
    experts = inside if shape.is_moe else [1]
    axes = itertools.product(inside, POWERS, (1, 2, 4), inside, experts, ("none", "full"))
    for tp, pp, vpp, cp, ep, recompute in axes:
        if tp * pp * cp > world_size:
            continue
        layout = ParallelConfig.model_validate(
            {
                "tp": tp, "pp": pp, "vpp": vpp, "cp": cp, "ep": ep, "recompute": recompute, "precision": precision,
                "sequence_parallel": True if tp > 1 else None, "distributed_optimizer": True, "overlap": True,
                "etp": tp if shape.is_moe and ep % tp else 1,
            }
        )  # fmt: skip
        if not layout_problems(shape, layout, world_size, work):
            yield layout


def search(
    shape: ModelShape, world_size: int, work: Workload, gpu: Accelerator, precision: str = "bf16"
) -> list[Planned]:
    """All candidates, those that fit first, fastest first; of those that do not fit the smallest first."""
    planned = [
        plan_layout(shape, layout, world_size, work, gpu)
        for layout in candidates(shape, world_size, work, gpu, precision)
    ]
    return sorted(planned, key=lambda one: (not one.fits, one.time.seconds if one.fits else one.fullest.total))
