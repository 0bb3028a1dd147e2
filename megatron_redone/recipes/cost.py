"""What a stage costs, from its settings alone: tokens, operations, time on the stated cluster, memory of a rank.

Imports no torch. `stage_cost` is the one function that the dry run asks.

Operations are those of `models/flops.py`. Time is operations over the peak of all GPUs times the utilisation that the
recipe's `cluster` states. Drawing tokens is bound by memory bandwidth instead: one step of a GPU reads all weights and
the keys and values of all its sequences, and gives one token to each; as many sequences run at once as fit beside the
weights. Nothing is counted for data loading, checkpoints, scoring and start-up.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from megatron_redone.generation.config import GenerationConfig
from megatron_redone.models.config import ModelShape
from megatron_redone.models.flops import PASSES, forward_flops
from megatron_redone.models.presets import get_preset
from megatron_redone.parallel.config import ParallelConfig
from megatron_redone.recipes.cluster import ClusterConfig
from megatron_redone.recipes.config import (
    DAPOStage,
    DiagnoseStage,
    DPOStage,
    EvaluateStage,
    PretrainStage,
    RefinementSetStage,
    RLSetStage,
    SFTStage,
    TargetSetStage,
)
from megatron_redone.recipes.data_stages import RegMixProxiesStage, SFTSetStage, SynthesizeStage
from megatron_redone.recipes.graph import Recipe
from megatron_redone.recipes.memory import key_value_bytes, model_bytes, rank_bytes
from megatron_redone.recipes.stage_config import ModelStage, ScoredStage, StageConfig


@dataclass(frozen=True)
class Work:
    """What a stage computes."""

    trained_tokens: float = 0.0
    """Tokens through a forward and a backward pass."""
    read_tokens: float = 0.0
    """Tokens through a forward pass alone: the policy before the update, a reference, prompts."""
    drawn_tokens: float = 0.0
    """Tokens that are drawn one by one."""
    flops: float = 0.0
    """Operations of training and reading."""
    mean_context: float = 0.0
    """Tokens before a drawn token, in the mean."""

    def __add__(self, other: Work) -> Work:
        drawn = self.drawn_tokens + other.drawn_tokens
        weighted = self.mean_context * self.drawn_tokens + other.mean_context * other.drawn_tokens
        return Work(
            self.trained_tokens + other.trained_tokens,
            self.read_tokens + other.read_tokens,
            drawn,
            self.flops + other.flops,
            weighted / drawn if drawn else 0.0,
        )


@dataclass(frozen=True)
class StageCost:
    """The cost of one run of a stage; None where the settings do not tell."""

    work: Work | None
    seconds: float | None
    memory_bytes: float | None
    """Of a rank: weights, and where it trains gradients, optimizer states and activations."""


def stage_cost(recipe: Recipe, name: str, shape: ModelShape | None, num_gpus: int) -> StageCost:
    """Cost of a stage whose model has a shape (None: a folder that is not there decides).

    Args:
        num_gpus: processes that run the stage together, one a GPU.
    """
    stage, cluster = recipe.stages[name], recipe.config.cluster
    if isinstance(stage, RegMixProxiesStage) and stage.model.preset is not None:
        shape = get_preset(stage.model.preset)
    if shape is None:
        return StageCost(None, None, None)
    work = _work(recipe, stage, shape)
    memory = rank_bytes(shape, stage, num_gpus) if isinstance(stage, ModelStage) else None
    seconds = None
    if (
        work is not None and cluster is not None and not isinstance(stage, RegMixProxiesStage)
    ):  # start-up outweighs them
        seconds = _seconds(work, shape, cluster, num_gpus)
    return StageCost(work, seconds, memory)


def _seconds(work: Work, shape: ModelShape, cluster: ClusterConfig, num_gpus: int) -> float:
    computing = work.flops / (num_gpus * cluster.bf16_tflops * 1e12 * cluster.training_utilisation)
    if not work.drawn_tokens:
        return computing
    weights = model_bytes(shape, ParallelConfig(precision="bf16"), trained=False)
    cached = key_value_bytes(shape) * max(1.0, work.mean_context)
    gpus_a_copy = max(1, math.ceil(weights / (0.5 * cluster.memory_gib * 2**30)))  # half of a GPU is for the cache
    room = gpus_a_copy * cluster.memory_gib * 2**30 * 0.9 - weights
    at_once = max(1.0, room / cached)
    bandwidth = gpus_a_copy * cluster.bandwidth_tb_s * 1e12 * cluster.rollout_utilisation
    tokens_a_second = at_once * bandwidth / (weights + at_once * cached) * num_gpus / gpus_a_copy
    operations = num_gpus * cluster.bf16_tflops * 1e12 * cluster.training_utilisation
    limit = operations / (2 * shape.num_parameters(active=True))
    return computing + work.drawn_tokens / min(tokens_a_second, limit)


def _work(recipe: Recipe, stage: StageConfig, shape: ModelShape) -> Work | None:
    found: Work | None = None
    for kind, count in _WORK.items():
        if isinstance(stage, kind):
            found = count(recipe, stage, shape)
            if found is None:
                return None
    if isinstance(stage, ScoredStage) and stage.evaluate is not None:
        rows = _rows(recipe, stage.evaluate.data, stage.evaluate.split)
        if rows is not None:
            answered = _drawn(recipe, shape, rows, stage.evaluate.generation)
            found = answered if found is None else found + answered
    return found


def _trained(shape: ModelShape, documents: float, length: float, labels: float, passes: int = PASSES) -> Work:
    tokens = documents * length
    flops = passes * documents * forward_flops(shape, [round(length)], round(labels))
    return Work(trained_tokens=tokens, flops=flops) if passes >= PASSES else Work(read_tokens=tokens, flops=flops)


def _lengths(recipe: Recipe, config: GenerationConfig) -> tuple[int, int]:
    """Expected tokens of a prompt and of a response, within the settings' bounds."""
    expect = recipe.config.expect
    return min(expect.prompt_tokens, config.max_prompt_tokens), min(expect.response_tokens, config.max_new_tokens)


def _drawn(recipe: Recipe, shape: ModelShape, responses: float, config: GenerationConfig) -> Work:
    """Responses to prompts: a prompt is read once for each response, whose tokens are drawn."""
    prompt, response = _lengths(recipe, config)
    read = _trained(shape, responses, prompt, 1, passes=1)
    return read + Work(drawn_tokens=responses * response, mean_context=prompt + response / 2)


def _pretrain(recipe: Recipe, stage: PretrainStage, shape: ModelShape) -> Work | None:
    if stage.steps is None:
        return None
    length = min(stage.sequence_length, recipe.config.expect.document_tokens)
    tokens = stage.steps * stage.global_batch_size * stage.sequence_length
    return _trained(shape, tokens / length, length, length)


def _sft(recipe: Recipe, stage: SFTStage, shape: ModelShape) -> Work | None:
    length = min(stage.sequence_length, recipe.config.expect.conversation_tokens)
    if stage.steps is not None:
        documents = stage.steps * stage.global_batch_size * stage.sequence_length / length
    else:
        rows = _rows(recipe, stage.conversations, f"step{stage.schedule_step or 1}")
        if rows is None or stage.epochs is None:
            return None
        documents = rows * stage.epochs
    return _trained(shape, documents, length, length / 2)


def _dpo(recipe: Recipe, stage: DPOStage, shape: ModelShape) -> Work | None:
    pairs = _rows(recipe, stage.pairs, "train")
    seen = stage.steps * stage.global_batch_size if stage.steps is not None else None
    if pairs is not None and stage.epochs is not None:
        seen = round(pairs * stage.epochs)
    if seen is None:
        return None
    length = min(stage.max_length, recipe.config.expect.conversation_tokens)
    reference = _trained(shape, 2 * (pairs or seen), length, length / 2, passes=1)  # once, then kept
    return reference + _trained(shape, 2 * seen, length, length / 2)


def _dapo(recipe: Recipe, stage: DAPOStage, shape: ModelShape) -> Work:
    kept = recipe.config.expect.groups_kept if stage.dynamic_sampling else 1.0
    responses = stage.num_rollouts * stage.prompts_per_rollout * stage.responses_per_prompt
    prompt, response = _lengths(recipe, stage.generation)
    passes = int(stage.updates_per_rollout > 1 or stage.agreement.measure) + int(stage.kl.needed)
    work = _drawn(recipe, shape, responses / kept, stage.generation)
    work = work + _trained(shape, responses, prompt + response, response)
    return work + _trained(shape, responses, prompt + response, response, passes) if passes else work


def _diagnose(recipe: Recipe, stage: DiagnoseStage, shape: ModelShape) -> Work | None:
    rows = _rows(recipe, stage.data, "diagnosis") if stage.data else None
    return None if rows is None else _drawn(recipe, shape, rows, stage.generation)


def _target_set(recipe: Recipe, stage: TargetSetStage, shape: ModelShape) -> Work:
    total = stage.num_rows / (1 - stage.general_share - stage.healthy_share)
    labelled = total * (stage.general_share + stage.healthy_share) * stage.soft_labels.num_candidates
    return _drawn(recipe, shape, labelled, stage.soft_labels.generation)


def _refinement_set(recipe: Recipe, stage: RefinementSetStage, shape: ModelShape) -> Work | None:
    rows = stage.num_candidates or _rows(recipe, stage.data, "train")
    return None if rows is None else _drawn(recipe, shape, rows * stage.num_samples, stage.generation)


def _proxies(recipe: Recipe, stage: RegMixProxiesStage, shape: ModelShape) -> Work | None:
    mixtures = recipe.stages.get(stage.mixtures)
    runs = getattr(mixtures, "num_mixtures", None)
    if runs is None:
        return None
    tokens = runs * stage.num_seeds * stage.steps * stage.global_batch_size * stage.sequence_length
    length = min(stage.sequence_length, recipe.config.expect.document_tokens)
    return _trained(shape, tokens / length, length, length)


_WORK: dict[type[StageConfig], Callable[..., Work | None]] = {
    PretrainStage: _pretrain,
    SFTStage: _sft,
    DPOStage: _dpo,
    DAPOStage: _dapo,
    DiagnoseStage: _diagnose,
    TargetSetStage: _target_set,
    RefinementSetStage: _refinement_set,
    RegMixProxiesStage: _proxies,
    EvaluateStage: lambda recipe, stage, shape: Work(),
}


def _rows(recipe: Recipe, reference: str, part: str) -> int | None:
    """Rows of a part (a split, a step) of what a stage makes or a path holds: expected, or as its settings say."""
    expected = recipe.config.expect.rows
    for name in (f"{reference}/{part}", reference):
        if name in expected:
            return expected[name]
    stage = recipe.stages.get(reference)
    if isinstance(stage, SynthesizeStage):
        return len(stage.tasks) * stage.rows.of(part)
    if isinstance(stage, TargetSetStage):
        return round(stage.num_rows / (1 - stage.general_share - stage.healthy_share))
    if isinstance(stage, RefinementSetStage):
        return stage.num_rows
    if isinstance(stage, SFTSetStage):
        return stage.mixes[int(part.removeprefix("step")) - 1].num_rows
    if isinstance(stage, RLSetStage):
        data = _rows(recipe, stage.data, "train")
        return None if data is None else data + (stage.general_rows or 0)
    return None


def whole_cost(costs: list[tuple[StageCost, int]]) -> StageCost:
    """The sum over stages, each with how often it is run; what cannot be told is left out of the sum."""
    work, seconds = Work(), 0.0
    for cost, times in costs:
        for _ in range(times):
            work = work + (cost.work or Work())
            seconds += cost.seconds or 0.0
    return replace(StageCost(work, None, None), seconds=seconds or None)
