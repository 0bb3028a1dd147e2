"""What a stage computes, from its settings alone: tokens that are trained on, read and drawn, and operations.

Imports no torch. Operations are those of `models/flops.py`. `recipes/forecast.py` makes time, memory and cost of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from megatron_redone.generation.config import GenerationConfig
from megatron_redone.models.config import ModelShape
from megatron_redone.models.flops import PASSES, forward_flops
from megatron_redone.planning.rollout import Drawing
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
from megatron_redone.recipes.stage_config import ScoredStage, StageConfig


@dataclass(frozen=True)
class Drawn:
    """Answers, and the settings of the engine that draws them."""

    generation: GenerationConfig
    drawing: Drawing
    samples: int = 1
    """Answers to one prompt."""

    @property
    def prompt_tokens(self) -> float:
        """Read before answers: a prompt once for each of them."""
        return self.drawing.batches * self.drawing.responses * self.drawing.prompt_tokens


@dataclass(frozen=True)
class Work:
    """What a stage computes."""

    trained_tokens: float = 0.0
    """Tokens through a forward and a backward pass."""
    passed_tokens: float = 0.0
    """Tokens through a forward pass of the trainer alone: the policy before the update, a reference."""
    flops: float = 0.0
    """Operations of training, of these passes, and of reading prompts."""
    drawn: tuple[Drawn, ...] = field(default=())

    @property
    def read_tokens(self) -> float:
        """Tokens that are read without training: passes of the trainer, and prompts."""
        return self.passed_tokens + sum(part.prompt_tokens for part in self.drawn)

    @property
    def drawn_tokens(self) -> float:
        """Tokens that are drawn one by one."""
        return sum(part.drawing.tokens for part in self.drawn)

    def __add__(self, other: Work) -> Work:
        return Work(
            self.trained_tokens + other.trained_tokens,
            self.passed_tokens + other.passed_tokens,
            self.flops + other.flops,
            self.drawn + other.drawn,
        )


def stage_work(recipe: Recipe, stage: StageConfig, shape: ModelShape) -> Work | None:
    """What the settings tell of a stage's work; None where only its data can."""
    found: Work | None = None
    for kind, count in _WORK.items():
        if isinstance(stage, kind):
            found = count(recipe, stage, shape)
            if found is None:
                return None
    if isinstance(stage, ScoredStage) and stage.evaluate is not None:
        rows = rows_of(recipe, stage.evaluate.data, stage.evaluate.split)
        if rows is not None:
            answered = _drawn(recipe, shape, rows, stage.evaluate.generation)
            found = answered if found is None else found + answered
    return found


def _trained(shape: ModelShape, documents: float, length: float, labels: float, passes: int = PASSES) -> Work:
    tokens = documents * length
    flops = passes * documents * forward_flops(shape, [round(length)], round(labels))
    return Work(trained_tokens=tokens, flops=flops) if passes >= PASSES else Work(passed_tokens=tokens, flops=flops)


def lengths(recipe: Recipe, config: GenerationConfig) -> tuple[int, int]:
    """Expected tokens of a prompt and of a response, within the settings' bounds."""
    expect = recipe.config.expect
    return min(expect.prompt_tokens, config.max_prompt_tokens), min(expect.response_tokens, config.max_new_tokens)


def _drawn(
    recipe: Recipe, shape: ModelShape, responses: float, config: GenerationConfig, batches: float = 1, samples: int = 1
) -> Work:
    """Responses to prompts: a prompt is read once for each response, whose tokens are drawn."""
    prompt, response = lengths(recipe, config)
    flops = responses * forward_flops(shape, [prompt], 1)
    drawing = Drawing(responses / batches, prompt, response, config.max_new_tokens, batches)
    return Work(flops=flops, drawn=(Drawn(config, drawing, samples),))


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
        rows = rows_of(recipe, stage.conversations, f"step{stage.schedule_step or 1}")
        if rows is None or stage.epochs is None:
            return None
        documents = rows * stage.epochs
    return _trained(shape, documents, length, length / 2)


def _dpo(recipe: Recipe, stage: DPOStage, shape: ModelShape) -> Work | None:
    pairs = rows_of(recipe, stage.pairs, "train")
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
    prompt, response = lengths(recipe, stage.generation)
    batches = stage.num_rollouts / kept  # what is thrown away is drawn anew, batch after batch
    work = _drawn(recipe, shape, responses / kept, stage.generation, batches, stage.responses_per_prompt)
    work = work + _trained(shape, responses, prompt + response, response)
    passes = policy_passes(stage)
    return work + _trained(shape, responses, prompt + response, response, passes) if passes else work


def policy_passes(stage: DAPOStage) -> int:
    """Forward passes over the answers before an update: of the policy, and of a reference."""
    return int(stage.updates_per_rollout > 1 or stage.agreement.measure) + int(stage.kl.needed)


def _diagnose(recipe: Recipe, stage: DiagnoseStage, shape: ModelShape) -> Work | None:
    rows = rows_of(recipe, stage.data, "diagnosis") if stage.data else None
    return None if rows is None else _drawn(recipe, shape, rows, stage.generation)


def _target_set(recipe: Recipe, stage: TargetSetStage, shape: ModelShape) -> Work:
    total = stage.num_rows / (1 - stage.general_share - stage.healthy_share)
    labelled = total * (stage.general_share + stage.healthy_share) * stage.soft_labels.num_candidates
    return _drawn(recipe, shape, labelled, stage.soft_labels.generation, samples=stage.soft_labels.num_candidates)


def _refinement_set(recipe: Recipe, stage: RefinementSetStage, shape: ModelShape) -> Work | None:
    rows = stage.num_candidates or rows_of(recipe, stage.data, "train")
    return (
        None
        if rows is None
        else _drawn(recipe, shape, rows * stage.num_samples, stage.generation, samples=stage.num_samples)
    )


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


def rows_of(recipe: Recipe, reference: str, part: str) -> int | None:
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
        data = rows_of(recipe, stage.data, "train")
        return None if data is None else data + (stage.general_rows or 0)
    return None
