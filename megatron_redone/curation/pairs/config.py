"""Settings of preference pairs and of a judge's agreement with people. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from megatron_redone.config.artefact import Artefact, OptionalArtefact
from megatron_redone.config.base import StrictModel
from megatron_redone.generation.config import GenerationConfig
from megatron_redone.scoring.config import GateConfig, ServerConfig


class OptionOrderConfig(StrictModel):
    """The right option over a wrong one of the same question."""

    tasks: tuple[str, ...] = ()
    """Only rows of these tasks; none named: of all tasks with options."""
    choice: Literal["seeded", "nearest"] = "seeded"
    """Which wrong option: drawn by the seed, or the one that stands nearest to the right one (the next level of a
    scale, the next option of a list), which is the hardest where options have an order."""
    pairs_per_row: int = Field(1, ge=1)
    """Wrong answers of a row; fewer where it has fewer."""


class DrawnAnswersConfig(StrictModel):
    """Answers that a model draws to rows."""

    tasks: tuple[str, ...] = ()
    """Only rows of these tasks; none named: of all tasks."""
    max_rows: int | None = Field(None, ge=1)
    """So many rows are answered, balanced over tasks; unset answers all."""
    num_samples: int = Field(8, ge=1)
    """Answers drawn for a row."""
    generation: GenerationConfig = GenerationConfig()


class ModelErrorConfig(DrawnAnswersConfig):
    """The truth over the model's own wrong answers."""

    threshold: float = Field(1.0, gt=0, le=1)
    """An answer is wrong when its task scores it below this."""
    keep: Literal["most_frequent", "most_confident"] = "most_frequent"
    """Which of a row's different wrong answers: the one drawn most often, or the one that the model gives the highest
    mean token probability. The other rule decides among equals."""
    pairs_per_row: int = Field(1, ge=1)
    format_failures: bool = False
    """Whether answers that do not keep the format count as wrong answers; else they are left out. Answers that did not
    end within `max_new_tokens` are always left out: the end is what they lack."""


class OwnAnswersConfig(DrawnAnswersConfig):
    """The model's better answer over its worse one, by a composite quality: the weighted mean of the scores below."""

    score_weight: float = Field(1.0, ge=0)
    """Of the score that the row's task gives, 0..1."""
    judge_weight: float = Field(0.0, ge=0)
    """Of what `judge` gives the answer by itself, as 0..1: (points - 1) / 9, or the mean token probability."""
    confidence_weight: float = Field(0.0, ge=0)
    """Of the model's own mean token probability."""
    floor: float = Field(0.5, ge=0, le=1)
    """Least quality of a better answer; a row without one gives no pair."""
    min_margin: float = Field(0.2, gt=0, le=1)
    """Least difference in quality of the two answers."""
    pairs_per_row: int = Field(1, ge=1)
    """The best answer over so many others, the worst first."""
    format_failures: bool = False
    """Whether answers that do not keep the format may be the worse one. Those that did not end are left out."""

    def rule_violations(self) -> Iterator[str]:
        """Two answers, and something that tells them apart."""
        if self.num_samples < 2:
            yield f"num_samples={self.num_samples}: a pair needs two answers at least"
        if not self.score_weight + self.judge_weight + self.confidence_weight:
            yield "score_weight, judge_weight and confidence_weight are all 0; give one of them weight"


class JudgeConfig(StrictModel):
    """Who says which of two answers is better."""

    kind: Literal["server", "model", "likelihood", "length"]
    """`server` asks a model over HTTP, `model` asks the local one in `judge_model`; `likelihood` prefers the answer to
    which `judge_model` gives the higher mean log-probability a token, `length` the longer one. The last two are
    yardsticks: a judge that is worth asking beats them."""
    mode: Literal["pairwise", "pointwise"] = "pairwise"
    """Both answers in one question, asked in both orders; or each answer by itself with a score from 1 to 10
    (`likelihood` and `length` always score answers by themselves)."""
    language: Literal["auto", "en", "zh"] = "auto"
    """Language of the question; auto: that of the pair."""
    min_margin: float = Field(0.0, ge=0)
    """Scores that differ by no more are a tie (pointwise: points of 1 to 10; likelihood: nats a token; length:
    characters)."""
    server: ServerConfig | None = None
    """For `server`."""
    generation: GenerationConfig = GenerationConfig(
        temperature=0.0, max_new_tokens=256, max_prompt_tokens=8192, max_sequences=8
    )
    """For `model`: a longer question than `max_prompt_tokens` is not asked (`drop`: the verdict is unreadable)."""
    max_tokens: int = Field(4096, ge=2)
    """For `likelihood`: longer conversations get no score."""

    @property
    def is_local(self) -> bool:
        """Whether it runs a model in this process."""
        return self.kind in ("model", "likelihood")

    def rule_violations(self) -> Iterator[str]:
        """A server where one is asked."""
        if (self.kind == "server") != (self.server is not None):
            yield f"kind={self.kind!r}: " + (
                "add a `server` section with url and model" if self.server is None else "leave the `server` section out"
            )


class JudgeAgreementConfig(StrictModel):
    """A judge against people's labels."""

    labelled: Artefact
    """File of pairs with people's labels: `answer_a`, `answer_b`, `label`, or `chosen` and `rejected`."""
    judge: JudgeConfig
    judge_model: OptionalArtefact = None
    """Model of a local judge."""
    gate: GateConfig = GateConfig()
    max_pairs: int | None = Field(None, ge=2)
    """So many pairs, drawn by the seed; unset takes all."""
    max_characters: int | None = Field(None, ge=1)
    """Only pairs whose prompt and two answers have together at most so many."""

    def rule_violations(self) -> Iterator[str]:
        """A model for a local judge, and enough pairs."""
        yield from _judge_model_problems(self.judge, self.judge_model)
        if self.max_pairs is not None and self.max_pairs < self.gate.min_pairs:
            yield f"max_pairs={self.max_pairs} is less than gate.min_pairs={self.gate.min_pairs}; no judge could pass"


class PairsConfig(StrictModel):
    """Preference pairs from up to five sources, and what becomes of them."""

    data: OptionalArtefact = None
    """Folder of task rows, for `option_order`, `model_errors` and `own_answers`."""
    split: Literal["train", "validation", "diagnosis", "test"] = "train"
    """Which rows of `data`."""
    option_order: OptionOrderConfig | None = None
    """Source 1; `{}` takes all defaults."""
    model_errors: ModelErrorConfig | None = None
    """Source 2; needs `model`, whose answers are drawn, or `predictions`."""
    own_answers: OwnAnswersConfig | None = None
    """Source 4: answers of `model`, scored by their task, by `judge` where it has weight, and by confidence."""
    model: OptionalArtefact = None
    """Draws the answers of `model_errors` and `own_answers`."""
    predictions: OptionalArtefact = None
    """File of answers that were drawn elsewhere: `id` of the row and `output`, or `outputs` with several."""
    candidates: OptionalArtefact = None
    """Source 3: file of `answer_a` and `answer_b` to a prompt, for the judge to label."""
    judge: JudgeConfig | None = None
    judge_model: OptionalArtefact = None
    agreement: OptionalArtefact = None
    """What `judge-agreement` found about this very judge; it must have passed."""
    files: tuple[Artefact, ...] = ()
    """Files of preference pairs that others made, taken as they are."""
    tokenizer: OptionalArtefact = None
    """Folder of a tokenizer: prompts are written by its chat template (else as ChatML), and every pair is checked with
    it: no token across the border of prompt and answer, no spelled special token, no more than `max_tokens`."""
    max_tokens: int = Field(4096, ge=2)
    """Longest prompt with one answer, in tokens (RedOne: 4,096); needs `tokenizer`."""
    max_pairs_per_task: int | None = Field(None, ge=1)
    """At most so many of each task, in turn from its sources."""
    max_pairs: int | None = Field(None, ge=1)
    """At most so many in all, in turn from the tasks, so that small ones stay whole."""
    max_length_ratio: float | None = Field(None, ge=1)
    """Pairs whose longer answer has more than so many times the characters of the shorter one are left out."""
    balance_length: bool = False
    """As many pairs whose chosen answer is the longer one as pairs whose rejected one is, in each task: what is over
    on one side is left out, so that length alone tells nothing."""
    validation_share: float = Field(0.05, ge=0, lt=1)
    """Share of the prompts that go to validation.jsonl, by a hash of the prompt."""

    def rule_violations(self) -> Iterator[str]:
        """Each source has what it reads, and nothing is given that no source reads."""
        if not (self.option_order or self.model_errors or self.own_answers or self.candidates or self.files):
            yield "no source of pairs; give option_order, model_errors, own_answers, candidates or files"
        by_rows = any(source is not None for source in (self.option_order, self.model_errors, self.own_answers))
        if by_rows and self.data is None:
            yield "data is missing; option_order, model_errors and own_answers need task rows"
        if self.data is not None and not (by_rows or self.candidates):
            yield f"data={self.data!r} is read by no source; add option_order or model_errors, or leave it out"
        yield from self._model_problems()
        judged = self.candidates is not None or (self.own_answers is not None and self.own_answers.judge_weight > 0)
        if judged and (self.judge is None or self.agreement is None):
            yield (
                "candidates and own_answers.judge_weight need judge and agreement: a judge labels only after "
                "`redone curate judge-agreement`"
            )
        if not judged and (self.judge is not None or self.agreement is not None):
            yield "judge and agreement are for candidates or own_answers.judge_weight, which are missing"
        if self.judge is not None and self.own_answers is not None and self.own_answers.judge_weight > 0:
            yield from _single_answer_problems(self.judge)
        if self.judge is not None:
            yield from _judge_model_problems(self.judge, self.judge_model)
        elif self.judge_model is not None:
            yield f"judge_model={self.judge_model!r}: there is no judge"

    def _model_problems(self) -> Iterator[str]:
        if self.model_errors is not None and self.predictions is not None and self.model and self.own_answers is None:
            yield "model_errors needs either model or predictions"
        if self.model_errors is not None and self.predictions is None and self.model is None:
            yield "model_errors needs either model or predictions"
        if self.own_answers is not None and self.model is None:
            yield "own_answers needs model, which draws the answers"
        if self.model is not None and self.model_errors is None and self.own_answers is None:
            yield "model is for model_errors or own_answers, which are missing; `model_errors: {}` takes its defaults"
        if self.predictions is not None and self.model_errors is None:
            yield "predictions are for model_errors, which is missing; `model_errors: {}` takes its defaults"


def _judge_model_problems(judge: JudgeConfig, judge_model: str | None) -> Iterator[str]:
    if judge.is_local and judge_model is None:
        yield f"judge_model is missing; a judge of the kind {judge.kind!r} runs a model"
    if not judge.is_local and judge_model is not None:
        yield f"judge_model={judge_model!r}: a judge of the kind {judge.kind!r} runs no local model; leave it out"


def _single_answer_problems(judge: JudgeConfig) -> Iterator[str]:
    if judge.kind == "length" or (judge.kind != "likelihood" and judge.mode != "pointwise"):
        yield (
            f"own_answers.judge_weight with judge.kind={judge.kind!r}, judge.mode={judge.mode!r}: answers are scored "
            "by themselves; take judge.mode=pointwise of a server or model, or likelihood"
        )
