"""The plan of a whole recipe as a page in Markdown and as JSON. Imports no torch."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from megatron_redone.models.config import ModelShape
from megatron_redone.planning.hardware import Accelerator
from megatron_redone.planning.pages import GIB, MEMORY_PARTS
from megatron_redone.planning.search import Planned
from megatron_redone.recipes.cluster import ExpectConfig
from megatron_redone.recipes.forecast import StageForecast

LIMITS = (
    "Memory of training was held against traces of the real code without Transformer Engine, time against published "
    "records (docs/measurements/planner.md tells the errors of both); no GPU has confirmed this page. Not counted: "
    "loading, checkpoints, scoring, start-up, and stages without a model."
)


@dataclass(frozen=True)
class RecipePlan:
    """All stages of a recipe on some machines."""

    name: str
    machines: str
    gpu: Accelerator
    expect: ExpectConfig
    stages: Sequence[StageForecast]
    better: dict[str, tuple[Planned, float]]
    """By stage: the fastest layout that fits, where it beats the given one, and how many times as fast it is, both
    with full rows."""

    @property
    def hours(self) -> float:
        """Of all runs of all stages, one behind the other."""
        return sum(stage.times * (stage.seconds or 0.0) for stage in self.stages) / 3600

    @property
    def gpu_hours(self) -> float:
        """Of all runs of all stages."""
        return sum(stage.gpu_hours or 0.0 for stage in self.stages)

    @property
    def problems(self) -> list[str]:
        """Of all stages."""
        return [f"{stage.name}: {problem}" for stage in self.stages for problem in stage.problems]

    @property
    def unknown(self) -> list[str]:
        """Stages with a model whose time only their data can tell."""
        return [stage.name for stage in self.stages if stage.shape is not None and stage.seconds is None]


def recipe_markdown(plan: RecipePlan, command: str) -> str:
    """A page: stages with time and cost, then the training half and the rollout half of each, then what was assumed."""
    planned = [stage for stage in plan.stages if stage.training is not None or stage.rollouts]
    lines = [f"# Plan of {plan.name}", "", _wrapped(f"Made by `{command}` for {plan.machines}. {LIMITS}"), ""]
    lines += [_wrapped(_sum(plan)), ""]
    lines += [_header("stage", "runs", "memory a GPU", "verdict", "drawing", "passes", "training", "weights", "hours",
                      "GPU-hours", "cost")]  # fmt: skip
    lines += [_stage_row(stage, plan.gpu) for stage in planned]
    lines += _training_part(plan, [stage for stage in planned if stage.training is not None])
    lines += _rollout_part([stage for stage in planned if stage.rollouts])
    lines += ["", "## What was assumed", "", _wrapped(_assumed(plan)), ""]
    return "\n".join(lines)


def _sum(plan: RecipePlan) -> str:
    cost = plan.gpu.dollars_per_hour
    price = "" if cost is None else f", ${plan.gpu_hours * cost:,.0f} at ${cost:.2f} a GPU and hour"
    verdict = "Every stage fits." if not plan.problems else "Does not fit: " + "; ".join(plan.problems) + "."
    rest = f" Time is unknown of {', '.join(plan.unknown)}." if plan.unknown else ""
    return f"**{plan.hours / 24:.1f} days, {plan.gpu_hours:,.0f} GPU-hours{price}. {verdict}**{rest}"


def _wrapped(text: str) -> str:
    return textwrap.fill(text, 120, break_long_words=False, break_on_hyphens=False)


def _header(*names: str) -> str:
    return "| " + " | ".join(names) + " |\n|---" + "|---:" * (len(names) - 1) + "|"


def _line(*cells: str) -> str:
    return "| " + " | ".join(cells) + " |"


def _stage_row(stage: StageForecast, gpu: Accelerator) -> str:
    halves = (stage.drawing_seconds, stage.passed_seconds, stage.training_seconds, stage.sync)
    known = stage.seconds is not None
    hours, cost = stage.gpu_hours, gpu.dollars_per_hour
    return _line(
        stage.name,
        str(stage.times),
        f"{stage.memory_bytes / GIB:.1f} GiB",
        "fits" if not stage.problems else "does not fit",
        *(_hours(part) if known and part else "" for part in halves),
        _hours(stage.seconds) if stage.seconds is not None else "unknown",
        "" if hours is None else f"{hours:,.0f}",
        "" if hours is None or cost is None else f"${hours * cost:,.0f}",
    )


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:.2f} h"


def _training_part(plan: RecipePlan, stages: Sequence[StageForecast]) -> list[str]:
    if not stages:
        return []
    lines = ["", "## Training", ""]
    lines += [
        _header("stage", "layout", "steps", "rows a step", "tokens/s/GPU", "TFLOP/s", "MFU", "step", "where it goes")
    ]
    for stage in stages:
        assert stage.training is not None and stage.batch is not None
        time, work = stage.training.time, stage.batch
        parts = {
            "compute": time.compute, "bubble": time.bubble, "traffic": time.communication, "host": time.host,
            "update": time.update,
        }  # fmt: skip
        shares = ", ".join(
            f"{name} {part / time.seconds:.0%}" for name, part in parts.items() if part > 0.005 * time.seconds
        )
        lines.append(
            _line(
                stage.name,
                f"`{stage.training.layout()}`",
                "unknown" if stage.steps is None else f"{stage.steps:,.0f}",
                f"{work.global_batch} x {work.sequence_length:,}",
                f"{time.tokens_per_second_per_rank:,.0f}",
                f"{time.flops_per_second_per_rank / 1e12:.0f}",
                f"{time.mfu:.1%}",
                f"{time.seconds:.2f} s",
                shares,
            )
        )
    lines += ["", "Memory of the fullest rank in GiB, with full rows:", ""]
    lines += [_header("stage", *MEMORY_PARTS, "together", "and a generator beside it")]
    for stage in stages:
        assert stage.training is not None
        fullest = stage.training.fullest
        cells = [f"{getattr(fullest, part) / GIB:.1f}" for part in MEMORY_PARTS]
        lines.append(_line(stage.name, *cells, f"{fullest.total / GIB:.1f}", f"{stage.training_bytes / GIB:.1f}"))
    if plan.better:
        lines += ["", "Faster layouts that the search finds, with full rows:", ""]
        lines += [_header("stage", "layout", "memory a GPU", "MFU", "times as fast")]
        for name, (better, times) in plan.better.items():
            memory = f"{better.fullest.total / GIB:.1f} GiB"
            lines.append(_line(name, f"`{better.layout()}`", memory, f"{better.time.mfu:.1%}", f"{times:.2f}"))
    return lines


def _rollout_part(stages: Sequence[StageForecast]) -> list[str]:
    if not stages:
        return []
    lines = ["", "## Drawing answers", ""]
    lines += [
        _header("stage", "engine", "answers", "tokens each", "GPUs of a copy", "weights a GPU", "cache a GPU",
                "one longest", "at once", "tokens/s/GPU", "running empty", "hours")
    ]  # fmt: skip
    for stage in stages:
        for part in stage.rollouts:
            drawing, plan = part.drawn.drawing, part.plan
            lines.append(
                _line(
                    stage.name,
                    part.drawn.generation.engine,
                    f"{drawing.batches:,.0f} x {drawing.responses:,.0f}",
                    f"{drawing.response_tokens:,.0f}",
                    str(part.engines.ranks),
                    f"{plan.weights_bytes / GIB:.1f} GiB",
                    f"{plan.cache_bytes / GIB:.1f} GiB",
                    f"{plan.sequence_bytes / GIB:.1f} GiB",
                    f"{plan.at_once:,.0f}",
                    f"{plan.tokens_per_second_per_rank:,.0f}",
                    f"{plan.tail_share:.0%}",
                    _hours(plan.seconds + part.prompt_seconds),
                )
            )
    return lines


def _assumed(plan: RecipePlan) -> str:
    expect = plan.expect
    return (
        f"Prompts of {expect.prompt_tokens:,} tokens, responses of {expect.response_tokens:,}, conversations of "
        f"{expect.conversation_tokens:,}, documents of {expect.document_tokens:,}; {expect.groups_kept:.0%} of the "
        f"groups kept; experts' fullest rank {expect.expert_imbalance:g} times the mean. All of them are settings of "
        f"the recipe's `expect`. Device: {plan.gpu.source}."
    )


def recipe_json(plan: RecipePlan) -> dict[str, Any]:
    """All figures."""
    return {
        "name": plan.name,
        "machines": plan.machines,
        "gpu": asdict(plan.gpu),
        "expect": plan.expect.model_dump(mode="json"),
        "limits": LIMITS,
        "hours": plan.hours,
        "gpu_hours": plan.gpu_hours,
        "problems": plan.problems,
        "stages": [_stage_json(stage) for stage in plan.stages],
    }


def _stage_json(stage: StageForecast) -> dict[str, Any]:
    found: dict[str, Any] = {
        "name": stage.name,
        "kind": stage.kind,
        "runs": stage.times,
        "gpus": stage.gpus,
        "parameters": _parameters(stage.shape),
        "problems": stage.problems,
        "seconds": stage.seconds,
        "gpu_hours": stage.gpu_hours,
        "seconds_by_part": {
            "drawing": stage.drawing_seconds, "passes": stage.passed_seconds, "training": stage.training_seconds,
            "weights": stage.sync,
        },
        "memory_bytes": {"training": stage.training_bytes, "drawing": stage.drawing_bytes},
    }  # fmt: skip
    if stage.training is not None and stage.batch is not None:
        time = stage.training.time
        found["training"] = {
            "layout": stage.training.layout(),
            "steps": stage.steps,
            "rows": asdict(stage.batch),
            "memory_by_stage": [{**asdict(rank), "total": rank.total} for rank in stage.training.memory],
            "tokens_per_second_per_rank": time.tokens_per_second_per_rank,
            "mfu": time.mfu,
            "seconds_per_step": time.seconds,
        }
    found["rollouts"] = [
        {
            "engine": part.drawn.generation.engine,
            "engines": asdict(part.engines),
            "drawing": asdict(part.drawn.drawing),
            "prompt_seconds": part.prompt_seconds,
            **asdict(part.plan),
        }
        for part in stage.rollouts
    ]
    return found


def _parameters(shape: ModelShape | None) -> int | None:
    return None if shape is None else shape.num_parameters()
