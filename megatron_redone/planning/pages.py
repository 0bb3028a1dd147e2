"""A plan as JSON, and as a page in Markdown. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from megatron_redone.models.config import ModelShape
from megatron_redone.planning.hardware import Accelerator
from megatron_redone.planning.memory import RankMemory, Workload
from megatron_redone.planning.search import Planned

GIB = 2**30
MEMORY_PARTS = (
    "weights", "gradients", "optimizer", "activations", "logits", "workspace", "communication", "fragmentation",
    "reserved",
)  # fmt: skip
CERTIFIED = (
    "Memory was checked against traces of the real code without Transformer Engine for the layouts that "
    "docs/measurements/planner.md lists, and for no others. With Transformer Engine, and in time, the plan is an "
    "estimate that no GPU run of this code has confirmed."
)


@dataclass(frozen=True)
class StagePlan:
    """A stage of a recipe, or one model and workload."""

    name: str
    model: str
    shape: ModelShape
    world_size: int
    work: Workload
    chosen: Planned
    """The layout that was asked for, or the best that was found."""
    others: Sequence[Planned] = ()
    """The next best."""
    steps: int | None = None
    """Optimizer steps; None where nothing tells."""

    @property
    def hours(self) -> float | None:
        """Of all steps."""
        return None if self.steps is None else self.steps * self.chosen.time.seconds / 3600

    def dollars(self, gpu: Accelerator) -> float | None:
        """Of all steps, on all ranks."""
        if self.hours is None or gpu.dollars_per_hour is None:
            return None
        return self.hours * self.world_size * gpu.dollars_per_hour


def as_json(plans: Sequence[StagePlan], gpu: Accelerator) -> dict[str, Any]:
    """All figures of the plans."""
    return {"gpu": asdict(gpu), "certified": CERTIFIED, "stages": [_stage(plan, gpu) for plan in plans]}


def _stage(plan: StagePlan, gpu: Accelerator) -> dict[str, Any]:
    return {
        "name": plan.name,
        "model": plan.model,
        "parameters": plan.shape.num_parameters(),
        "active_parameters": plan.shape.num_parameters(active=True),
        "world_size": plan.world_size,
        "workload": asdict(plan.work),
        "steps": plan.steps,
        "hours": plan.hours,
        "dollars": plan.dollars(gpu),
        **_planned(plan.chosen),
        "others": [_planned(other) for other in plan.others],
    }


def _planned(planned: Planned) -> dict[str, Any]:
    time = planned.time
    return {
        "layout": planned.layout(),
        "fits": planned.fits,
        "reasons": planned.reasons(),
        "memory_by_stage": [{**asdict(stage), "total": stage.total} for stage in planned.memory],
        "tokens_per_second_per_rank": time.tokens_per_second_per_rank,
        "tflops_per_second_per_rank": time.flops_per_second_per_rank / 1e12,
        "mfu": time.mfu,
        "seconds_per_step": time.seconds,
        "flops_per_step": time.flops,
        "tokens_per_step": time.tokens,
        "seconds": {part: getattr(time, part) for part in ("compute", "bubble", "communication", "update")},
        "bytes_sent_per_rank": asdict(time.volumes),
    }


def as_markdown(plans: Sequence[StagePlan], gpu: Accelerator, title: str, command: str) -> str:
    """The plans as a page: a table of stages, and for each its memory by part and what was weighed."""
    lines = [f"# {title}", "", f"Written by `{command}`. {CERTIFIED}", ""]
    lines += [f"A rank is one {gpu.name} with {gpu.memory_bytes / GIB:.0f} GiB ({gpu.source}).", ""]
    lines += [
        "| stage | model | ranks | layout | memory a rank | verdict | tokens/s/rank | MFU | steps | hours | cost |"
    ]
    lines += ["|---|---|---:|---|---:|---|---:|---:|---:|---:|---:|"]
    lines += [_row(plan, gpu) for plan in plans]
    known = [plan.hours for plan in plans if plan.hours is not None]
    if known:
        unknown = len(plans) - len(known)
        rest = f"; {unknown} stage(s) of unknown length are left out" if unknown else ""
        lines += ["", f"Together {sum(known):,.1f} hours ({sum(known) / 24:.2f} days){rest}."]
    for plan in plans:
        lines += ["", f"## {plan.name}", "", *_memory_table(plan.chosen.memory), ""]
        lines += ["Why: " + "; ".join(plan.chosen.reasons()) + "."]
        if plan.others:
            lines += ["", "| next best | memory a rank | MFU | why |", "|---|---:|---:|---|"]
            lines += [
                f"| `{other.layout()}` | {other.fullest.total / GIB:.1f} GiB | {other.time.mfu:.1%} | "
                f"{'; '.join(other.reasons())} |"
                for other in plan.others
            ]
    return "\n".join(lines) + "\n"


def _row(plan: StagePlan, gpu: Accelerator) -> str:
    chosen, cost = plan.chosen, plan.dollars(gpu)
    cells = [
        plan.name,
        plan.model,
        str(plan.world_size),
        f"`{chosen.layout()}`",
        f"{chosen.fullest.total / GIB:.1f} GiB",
        "fits" if chosen.fits else "does not fit",
        f"{chosen.time.tokens_per_second_per_rank:,.0f}",
        f"{chosen.time.mfu:.1%}",
        "unknown" if plan.steps is None else f"{plan.steps:,}",
        "" if plan.hours is None else f"{plan.hours:,.2f}",
        "" if cost is None else f"${cost:,.0f}",
    ]
    return "| " + " | ".join(cells) + " |"


def _memory_table(stages: Sequence[RankMemory]) -> list[str]:
    shown = list(enumerate(stages))
    if len(shown) > 2:
        shown = [shown[0], shown[-1]]
    lines = ["| GiB of a rank | " + " | ".join(f"stage {number}" for number, _ in shown) + " |"]
    lines += ["|---|" + "---:|" * len(shown)]
    for part in (*MEMORY_PARTS, "total"):
        lines += [f"| {part} | " + " | ".join(f"{getattr(stage, part) / GIB:.2f}" for _, stage in shown) + " |"]
    return lines
