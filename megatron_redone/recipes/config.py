"""The recipe file: stages by name, what each reads, and defaults for all of them. Imports no torch.

Top-level sections (`parallel`, `optimizer`, `generation`, ...) are defaults of every stage that has such a section;
a stage's own section overrides them key by key. A field of type `Artefact` names the stage whose output is read.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import Field

from megatron_redone.checkpoint.config import CheckpointConfig
from megatron_redone.config.artefact import ARTEFACT, Artefact, OptionalArtefact
from megatron_redone.config.base import StrictModel
from megatron_redone.curation.config import (
    DiagnosisConfig,
    RefinementSetConfig,
    SFTSetConfig,
    SNSBenchRowsConfig,
    TargetSetConfig,
)
from megatron_redone.curation.interactions.config import GeneralTextConfig, InteractionsConfig, TrafficConfig
from megatron_redone.curation.synthesize.config import SynthesizeConfig
from megatron_redone.generation.config import GenerationConfig
from megatron_redone.models.config import ModelConfig
from megatron_redone.parallel.config import ParallelConfig
from megatron_redone.rl.config import DAPOConfig
from megatron_redone.training.config import PretrainConfig, SFTConfig


class EvaluationConfig(StrictModel):
    """Held-out rows that a stage's model answers when the stage is done."""

    data: Artefact
    split: Literal["validation", "diagnosis", "test"] = "test"
    generation: GenerationConfig = GenerationConfig(temperature=0.0)


class StageConfig(StrictModel):
    """What every stage has."""

    kind: str
    per_seed: bool = False
    """Run once for each of the recipe's `seeds`; stages that read this one with `per_seed` read their own seed's."""
    threads: int | None = Field(None, ge=1)
    """CPU threads of the stage's process; by default the cores divided by the recipe's `workers`."""


class ModelStage(StageConfig):
    """A stage that runs a model."""

    parallel: ParallelConfig = ParallelConfig()


class ScoredStage(ModelStage):
    """A stage whose output is a model, which may answer held-out rows."""

    evaluate: EvaluationConfig | None = None


class TrainingStage(ScoredStage):
    """A stage that trains a model."""

    checkpoint: CheckpointConfig = CheckpointConfig()
    watchdog_minutes: float | None = Field(60.0, gt=0)
    """When no step is finished in so long, the run is ended with the stacks of all ranks; null: it may hang."""


class SynthesizeStage(SynthesizeConfig, StageConfig):
    """Generated quickstart data: a corpus, rows in four splits, general rows. Its `seed` is added to the recipe's."""

    kind: Literal["synthesize"]


class InteractionLogsStage(TrafficConfig, StageConfig):
    """A generated log: `sessions.jsonl`, users who search, click and read, and `notes.jsonl`, what they see."""

    kind: Literal["interaction_logs"]


class InteractionsStage(InteractionsConfig, StageConfig):
    """Interaction logs as pretraining documents: single searches, consecutive searches, click-through estimates."""

    kind: Literal["interactions"]
    logs: Artefact
    """Sessions, one a line: a file, or a folder (where names begin with `sessions`, those files)."""
    notes: OptionalArtefact = None
    """The notes that the logs name, one a line, likewise (`notes`); unset: they lie in the folder of the logs."""


class GeneralTextStage(GeneralTextConfig, StageConfig):
    """General texts cut and put together to documents of about equal length."""

    kind: Literal["general_text"]
    texts: Artefact
    """Lines {"id", "text"}: a file or a folder."""
    tokenizer: OptionalArtefact = None
    """Counts the tokens; unset: they are estimated, 1.5 Chinese characters or 4 others a token."""


class SNSBenchRowsStage(SNSBenchRowsConfig, StageConfig):
    """Rows of SNS-Bench files, split by hash (a model trained on them is not comparable with published figures)."""

    kind: Literal["sns_bench_rows"]
    data: Artefact
    """Folder of the benchmark's JSON files: a path with a slash in it."""


class TokenizerStage(StageConfig):
    """A SentencePiece tokenizer trained on a corpus."""

    kind: Literal["tokenizer"]
    corpus: Artefact
    vocab_size: int = Field(ge=300)


class TokenizeStage(StageConfig):
    """A corpus as Megatron IndexedDataset."""

    kind: Literal["tokenize"]
    corpus: Artefact
    tokenizer: Artefact


class PretrainStage(PretrainConfig, TrainingStage):
    """Pretraining on an indexed corpus, from random weights or a checkpoint."""

    kind: Literal["pretrain"]
    tokens: Artefact
    tokenizer: Artefact
    model: ModelConfig


class SFTSetStage(SFTSetConfig, StageConfig):
    """Gold conversations of training rows."""

    kind: Literal["sft_set"]
    data: Artefact


class SFTStage(SFTConfig, TrainingStage):
    """Supervised fine-tuning on a set of conversations."""

    kind: Literal["sft"]
    model: Artefact
    conversations: Artefact
    match_compute_of: tuple[Artefact, ...] = ()
    """Instead of `steps` or `epochs`: as many steps as cost the compute that these stages spent."""

    def rule_violations(self) -> Iterator[str]:
        """One measure of length."""
        if self.match_compute_of:
            if self.epochs is not None or self.steps is not None:
                yield f"match_compute_of={list(self.match_compute_of)}: leave out epochs and steps"
            return
        yield from super().rule_violations()


class RLSetStage(StageConfig):
    """Rows for Exploratory Learning: task rows and general rows with rationale."""

    kind: Literal["rl_set"]
    data: Artefact
    general_rows: int | None = Field(None, ge=0)
    """So many general rows; unset takes all (RedOne 2.0: 50K beside 750K)."""


class DAPOStage(DAPOConfig, TrainingStage):
    """Reinforcement learning on a set of rows."""

    kind: Literal["dapo"]
    model: Artefact
    rows: Artefact


class DiagnoseStage(DiagnosisConfig, ModelStage):
    """Answers to the diagnosis rows and the weak bucket."""

    kind: Literal["diagnose"]
    model: Artefact
    data: Artefact


class TargetSetStage(TargetSetConfig, ModelStage):
    """Rows of the weak bucket and soft-labelled general rows."""

    kind: Literal["target_set"]
    model: Artefact
    data: Artefact
    diagnosis: Artefact


class RefinementSetStage(RefinementSetConfig, ModelStage):
    """Rows by difficulty for the current model."""

    kind: Literal["refinement_set"]
    model: Artefact
    data: Artefact


class EvaluateStage(ScoredStage):
    """Scores of a model that no stage here made."""

    kind: Literal["evaluate"]
    model: Artefact


class BaselinesStage(StageConfig):
    """Scores of rules without a model."""

    kind: Literal["baselines"]
    data: Artefact
    split: Literal["validation", "diagnosis", "test"] = "test"


STAGE_KINDS: dict[str, type[StageConfig]] = {
    get_args(stage.model_fields["kind"].annotation)[0]: stage
    for stage in (
        SynthesizeStage, InteractionLogsStage, InteractionsStage, GeneralTextStage,
        SNSBenchRowsStage, TokenizerStage, TokenizeStage, PretrainStage, SFTSetStage, SFTStage,
        RLSetStage, DAPOStage, DiagnoseStage, TargetSetStage, RefinementSetStage, EvaluateStage, BaselinesStage,
    )
}  # fmt: skip


class ComparisonConfig(StrictModel):
    """Which stages the report's headline compares."""

    before: str
    after: str
    arms: tuple[str, ...] = ()


class RecipeConfig(StrictModel):
    """A whole recipe with every default filled in."""

    name: str
    output: Path
    """Folder of the run."""
    seed: int = 0
    """Seed of the stages that run once."""
    seeds: tuple[int, ...] = (1,)
    """Seeds of the stages that run once per seed."""
    workers: int = Field(1, ge=1)
    """Stages that do not wait for each other run side by side in so many processes (with one process a model)."""
    max_refused_share: float = Field(0.05, ge=0, le=1)
    """A data file with more bad rows than this stops the run."""
    comparison: ComparisonConfig | None = None
    notes: tuple[str, ...] = ()
    """Licences and limits, printed at the end of the report."""
    parallel: dict[str, Any] | None = None
    """Default of every stage's `parallel` section; the next five likewise."""
    optimizer: dict[str, Any] | None = None
    checkpoint: dict[str, Any] | None = None
    generation: dict[str, Any] | None = None
    overlong: dict[str, Any] | None = None
    evaluate: dict[str, Any] | None = None
    stages: dict[str, Any]
    """Stage configurations by name, in the order they are listed."""


def artefacts_of(config: StrictModel) -> Iterator[tuple[str, str]]:
    """(field, value) of every artefact that a stage reads, nested sections included."""
    for name, field in type(config).model_fields.items():
        value = getattr(config, name)
        if ARTEFACT in field.metadata:
            if value is not None:
                yield name, value
        elif isinstance(value, StrictModel):
            yield from ((f"{name}.{inner}", reference) for inner, reference in artefacts_of(value))
        elif isinstance(value, tuple) and any(
            ARTEFACT in getattr(a, "__metadata__", ()) for a in get_args(field.annotation)
        ):
            yield from ((f"{name}.{place}", reference) for place, reference in enumerate(value))


def is_path(reference: str) -> bool:
    """Whether an artefact is a folder made elsewhere."""
    return "/" in reference


MODEL = "model"
"""Where the folder of a stage that makes a model holds it."""


def model_folder(folder: Path) -> Path:
    """The model of a stage's folder, or the folder itself, which was made elsewhere."""
    return folder / MODEL if (folder / MODEL).is_dir() else folder


SECTION_DEFAULTS = ("parallel", "optimizer", "checkpoint", "generation", "overlong", "evaluate")
"""Top-level sections of a recipe that become defaults of its stages."""
