"""Time, memory and cost of every stage of a recipe on stated machines. Imports no torch.

A stage that trains is planned as its layout says (`planning/`): rows as its data pack them, steps as its settings
count them. A stage that draws answers is planned on its engines: vLLM on every rank beside the trainer, or the
in-process generator, which takes what the trainer leaves. Not counted: loading, checkpoints, scoring, start-up, and
stages without a model, which run on CPUs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from megatron_redone.common.errors import ConfigError
from megatron_redone.generation.config import GenerationConfig
from megatron_redone.models.config import ModelShape
from megatron_redone.parallel.config import ParallelConfig
from megatron_redone.planning.hardware import Accelerator
from megatron_redone.planning.memory import BYTES, Workload, rank_parameters
from megatron_redone.planning.rollout import RolloutEngines, RolloutPlan, plan_rollout, sync_seconds
from megatron_redone.planning.search import Planned, layout_problems, plan_layout
from megatron_redone.planning.throughput import step_time
from megatron_redone.recipes.config import DAPOStage, DPOStage, PretrainStage, SFTStage
from megatron_redone.recipes.cost import Drawn, Work, lengths, stage_work
from megatron_redone.recipes.data_stages import RegMixProxiesStage
from megatron_redone.recipes.graph import Recipe
from megatron_redone.recipes.stage_config import ModelStage, ScoredStage, TrainingStage


@dataclass(frozen=True)
class Rollouts:
    """One kind of drawing of a stage."""

    drawn: Drawn
    engines: RolloutEngines
    plan: RolloutPlan
    prompt_seconds: float
    """Reading the prompts; with a prefix cache the answers of a group share theirs."""


@dataclass(frozen=True)
class StageForecast:
    """One run of a stage."""

    name: str
    kind: str
    shape: ModelShape | None
    """None where a folder that is not there decides."""
    gpus: int
    times: int
    """Runs of it: seeds."""
    work: Work | None = None
    """None where only its data can tell."""
    training: Planned | None = None
    batch: Workload | None = None
    """What a step of `training` computes, with rows as the expected lengths fill them."""
    full_batch: Workload | None = None
    """The same with full rows, whose memory it must have."""
    steps: float | None = None
    """Optimizer steps."""
    passed_seconds: float = 0.0
    """Forward passes of the trainer over answers."""
    rollouts: tuple[Rollouts, ...] = ()
    sync: float = 0.0
    """Seconds in which engines get new weights."""
    beside: bool = False
    """Answers are drawn while the trainer trains."""
    training_bytes: float = 0.0
    """Of the fullest rank while it trains, with allowances and what an engine beside it keeps."""
    drawing_bytes: float = 0.0
    """Of a rank while answers are drawn."""
    available_bytes: float = math.inf

    @property
    def training_seconds(self) -> float:
        """Of all optimizer steps."""
        return 0.0 if self.training is None or self.steps is None else self.steps * self.training.time.seconds

    @property
    def drawing_seconds(self) -> float:
        """Prompts read and answers drawn."""
        return sum(part.plan.seconds + part.prompt_seconds for part in self.rollouts)

    @property
    def seconds(self) -> float | None:
        """Of the stage; None where the settings do not tell."""
        if self.work is None or (self.training is not None and self.steps is None):
            return None
        if self.training is None and not self.rollouts:
            return None
        trained = self.training_seconds + self.passed_seconds
        both = max(trained, self.drawing_seconds) if self.beside else trained + self.drawing_seconds
        return both + self.sync

    @property
    def memory_bytes(self) -> float:
        """Of a rank, at the fuller of the two times; 0: no model."""
        return max(self.training_bytes, self.drawing_bytes)

    @property
    def problems(self) -> list[str]:
        """Why it does not fit; empty when it does."""
        found = []
        for what, needed in (("training", self.training_bytes), ("drawing", self.drawing_bytes)):
            if needed > self.available_bytes:
                found.append(f"{what} needs {(needed - self.available_bytes) / 2**30:.1f} GiB more than a rank has")
        for part in self.rollouts:
            if not part.plan.fits:
                missing = (part.plan.sequence_bytes - part.plan.cache_bytes) / 2**30
                found.append(f"the cache is {missing:.1f} GiB short of one longest answer")
        return list(dict.fromkeys(found))

    @property
    def gpu_hours(self) -> float | None:
        """Of all its runs."""
        return None if self.seconds is None else self.times * self.seconds * self.gpus / 3600


def forecast_stage(
    recipe: Recipe, name: str, shape: ModelShape | None, num_gpus: int, gpu: Accelerator
) -> StageForecast:
    """What is expected of a stage whose model has a shape.

    Args:
        num_gpus: ranks that run the stage together.
    Raises:
        ConfigError: a training stage whose layout does not divide model, ranks or batch.
    """
    stage = recipe.stages[name]
    times = len(recipe.config.seeds) if stage.per_seed else 1
    found = StageForecast(name, stage.kind, shape, num_gpus, times, available_bytes=gpu.memory_bytes)
    if shape is None:
        return found
    found = replace(found, work=stage_work(recipe, stage, shape))
    if isinstance(stage, RegMixProxiesStage) or not isinstance(stage, ModelStage):
        return found  # proxies: start-up outweighs them, and they run side by side
    if isinstance(stage, TrainingStage):
        found = _with_training(found, recipe, stage, shape, gpu)
    return _with_rollouts(found, stage, shape, gpu)


def _with_training(
    found: StageForecast, recipe: Recipe, stage: TrainingStage, shape: ModelShape, gpu: Accelerator
) -> StageForecast:
    full, usual = training_batches(recipe, stage, found.gpus)
    imbalance = recipe.config.expect.expert_imbalance if shape.is_moe else 1.0
    full, usual = (replace(work, expert_imbalance=imbalance) for work in (full, usual))
    replicas = max(1, stage.parallel.data_parallel_size(found.gpus))
    filled = replace(full, global_batch=-(-full.global_batch // replicas) * replicas)  # the engine adds empty rows
    if problems := layout_problems(shape, stage.parallel, found.gpus, filled):
        raise ConfigError([f"stage {found.name}: {problem}" for problem in problems])
    planned = plan_layout(shape, stage.parallel, found.gpus, full, gpu)
    time = step_time(shape, stage.parallel, found.gpus, usual, gpu)
    steps = _steps(stage, found.work, usual)
    passed = 0.0
    if found.work is not None and found.work.passed_tokens:
        passed = found.work.passed_tokens / time.tokens * (time.seconds - time.update) / 3
    return replace(
        found,
        training=replace(planned, time=time),
        batch=usual,
        full_batch=full,
        steps=steps,
        passed_seconds=passed,
        training_bytes=planned.fullest.total,
    )


def training_batches(recipe: Recipe, stage: TrainingStage, num_gpus: int) -> tuple[Workload, Workload]:
    """Rows of a step when all are full (their memory) and as the expected lengths fill them (their time)."""
    expect, p = recipe.config.expect, stage.parallel
    replicas = max(1, p.data_parallel_size(num_gpus))
    if isinstance(stage, PretrainStage):
        document = min(stage.sequence_length, expect.document_tokens)
        work = Workload(stage.sequence_length, stage.global_batch_size, document)
        return work, work
    if isinstance(stage, SFTStage):
        document = min(stage.sequence_length, expect.conversation_tokens)
        work = Workload(stage.sequence_length, stage.global_batch_size, document, 0.5)
        return work, work
    if isinstance(stage, DPOStage):
        length, sequences = min(stage.max_length, expect.conversation_tokens), 2 * stage.global_batch_size
        labelled = 0.5
    else:
        assert isinstance(stage, DAPOStage)
        prompt, response = lengths(recipe, stage.generation)
        length, sequences = prompt + response, stage.minibatch_prompts * stage.responses_per_prompt
        labelled = response / length
    longest = stage.max_tokens_per_microbatch
    of_replica = -(-sequences // replicas) * length
    rows = -(-of_replica // longest)
    full = Workload(longest, max(rows, p.pp * p.vpp) * replicas, length, labelled)
    return full, Workload(_rounded(of_replica / rows, p), rows * replicas, length, labelled)


def _rounded(tokens: float, p: ParallelConfig) -> int:
    """Up to what tensor and context parallelism divide."""
    multiple = p.tp * (2 * p.cp if p.cp > 1 else 1)
    return math.ceil(tokens / multiple) * multiple


def _steps(stage: TrainingStage, work: Work | None, batch: Workload) -> float | None:
    if isinstance(stage, DAPOStage):
        return stage.num_rollouts * stage.updates_per_rollout
    steps = getattr(stage, "steps", None)
    if steps is not None:
        return float(steps)
    return None if work is None else work.trained_tokens / (batch.global_batch * batch.sequence_length)


def _with_rollouts(found: StageForecast, stage: ModelStage, shape: ModelShape, gpu: Accelerator) -> StageForecast:
    static = found.training.fullest.static if found.training is not None else 0
    weights = BYTES[stage.parallel.precision] * _most_parameters(shape, stage.parallel)
    drawing = training = 0.0
    rollouts = []
    for part, trains in _drawn_parts(found.work, stage):
        config = part.generation
        engines = _engines(config, stage.parallel, found.gpus, gpu, static if trains else 0, weights)
        plan = plan_rollout(shape, gpu, engines, part.drawing, config.max_prompt_tokens)
        shared = part.samples if config.engine != "megatron" and config.vllm.prefix_caching else 1
        operations = 2.0 * shape.num_parameters(active=True) * part.prompt_tokens / shared
        prompts = operations / (engines.ranks * engines.engines * gpu.peak * gpu.kernels.dense)
        rollouts.append(Rollouts(part, engines, plan, prompts))
        held = engines.memory_bytes if config.engine == "vllm" else _generator_bytes(plan, gpu, static)
        drawing = max(drawing, held + (static + gpu.reserved_bytes if trains and config.engine == "vllm" else 0))
        if trains and config.engine == "vllm" and not config.vllm.colocated:
            training = engines.memory_bytes
    sync = beside = 0.0
    if isinstance(stage, DAPOStage) and rollouts:
        beside = stage.rollout.staleness
        if stage.generation.engine != "megatron":
            asleep = stage.generation.vllm.colocated
            sync = stage.num_rollouts * sync_seconds(shape, gpu, rollouts[0].engines, asleep=asleep)
    training_bytes = found.training_bytes + training
    if isinstance(stage, DAPOStage) and stage.kl.needed:
        training_bytes += weights  # the reference
    return replace(
        found,
        rollouts=tuple(rollouts),
        sync=sync,
        beside=bool(beside),
        training_bytes=training_bytes,
        drawing_bytes=drawing,
    )


def _drawn_parts(work: Work | None, stage: ModelStage) -> Iterator[tuple[Drawn, bool]]:
    """What is drawn, and whether a trainer is beside it: all but the answers to held-out rows."""
    for part in () if work is None else work.drawn:
        held_out = isinstance(stage, ScoredStage) and stage.evaluate and part.generation is stage.evaluate.generation
        yield part, isinstance(stage, DAPOStage) and not held_out


def _engines(
    config: GenerationConfig, p: ParallelConfig, num_gpus: int, gpu: Accelerator, static: float, weights: float
) -> RolloutEngines:
    if config.engine == "megatron":
        ranks = p.tp * p.pp
        room = gpu.memory_bytes - gpu.reserved_bytes - max(0.0, static - weights)
        return RolloutEngines(ranks, max(1, num_gpus // ranks), room, config.max_sequences)
    ranks = config.vllm.tensor_parallel_size
    memory = config.vllm.gpu_memory_utilization * gpu.memory_bytes
    engines = len(config.servers.urls) if config.engine == "servers" else max(1, num_gpus // ranks)
    return RolloutEngines(ranks, engines, memory, config.max_sequences)


def _generator_bytes(plan: RolloutPlan, gpu: Accelerator, static: float) -> float:
    """Of the in-process generator: the trainer's states or the weights, and a cache that takes what is left."""
    return max(static, plan.weights_bytes) + plan.sequence_bytes + gpu.reserved_bytes


def _most_parameters(shape: ModelShape, p: ParallelConfig) -> int:
    stages = [rank_parameters(shape, p, rank) for rank in range(p.pp)]
    return max(own.dense + own.experts for own in stages)
