"""The recipe file: stages by name, what each reads, and defaults for all of them. Imports no torch.

Top-level sections (`parallel`, `optimizer`, `generation`, ...) are defaults of every stage that has such a section;
a stage's own section overrides them key by key. A field of type `Artefact` names the stage whose output is read.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import Field

from megatron_redone.config.artefact import Artefact, OptionalArtefact
from megatron_redone.config.base import StrictModel
from megatron_redone.curation.config import (
    DiagnosisConfig,
    HeldOutConfig,
    RefinementSetConfig,
    TargetSetConfig,
)
from megatron_redone.data.config import BlendConfig
from megatron_redone.models.config import ModelConfig
from megatron_redone.nemo_aligner.config import NemoAlignerConfig, NemoEnvironmentConfig
from megatron_redone.nemo_aligner.mapping import problems
from megatron_redone.recipes.cluster import ClusterConfig, ExpectConfig
from megatron_redone.recipes.data_stages import (
    DataStatsStage,
    FilterStage,
    GeneralTextStage,
    InteractionLogsStage,
    InteractionsStage,
    JudgeAgreementStage,
    PairsStage,
    RegMixFitStage,
    RegMixMixturesStage,
    RegMixProxiesStage,
    SFTSetStage,
    SNSBenchRowsStage,
    SynthesizeStage,
    TokenizerStage,
    TokenizeStage,
    ToneModelStage,
)
from megatron_redone.recipes.stage_config import ModelStage, ScoredStage, StageConfig, TrainingStage
from megatron_redone.rl.config import DAPOConfig
from megatron_redone.training.config import DPOConfig, PretrainConfig, SFTConfig


class PretrainStage(PretrainConfig, TrainingStage):
    """Pretraining on an indexed corpus or a blend of several, from random weights or a checkpoint."""

    kind: Literal["pretrain"]
    tokens: OptionalArtefact = None
    """One tokenized corpus; or give `blend`."""
    blend: BlendConfig | None = None
    tokenizer: Artefact
    model: ModelConfig

    def rule_violations(self) -> Iterator[str]:
        """One source of tokens; a blend has no epoch."""
        yield from super().rule_violations()
        if (self.tokens is None) == (self.blend is None):
            yield f"tokens={self.tokens} and blend {'is' if self.blend else 'is not'} given: give exactly one of them"
        if self.blend is not None and self.steps is None:
            yield f"epochs={self.epochs} with a blend, whose corpora end at different times; give `steps`"


class SFTStage(SFTConfig, TrainingStage):
    """Supervised fine-tuning on a set of conversations."""

    kind: Literal["sft"]
    model: Artefact
    conversations: Artefact
    schedule_step: int | None = Field(None, ge=1)
    """Which step of an `sft_set` with a `schedule`, from 1."""
    match_compute_of: tuple[Artefact, ...] = ()
    """Instead of `steps` or `epochs`: as many steps as cost the compute that these stages spent."""

    def rule_violations(self) -> Iterator[str]:
        """One measure of length."""
        if self.match_compute_of:
            if self.epochs is not None or self.steps is not None:
                yield f"match_compute_of={list(self.match_compute_of)}: leave out epochs and steps"
            return
        yield from super().rule_violations()


class DPOStage(DPOConfig, TrainingStage):
    """Preference optimisation on pairs of answers."""

    kind: Literal["dpo"]
    model: Artefact
    """The model that is trained, and by default the reference."""
    pairs: Artefact
    """A `pairs` stage, a folder with train.jsonl (and validation.jsonl), or one JSONL file."""
    reference: OptionalArtefact = None
    """Another reference model with the same tokenizer."""
    reference_cache: Path | None = None
    """Folder of reference log-probabilities that stages share; by default they are kept until the stage is done."""
    backend: Literal["native", "nemo-aligner"] = "native"
    """Whose trainer drives the engine: ours, or NeMo-Aligner's in an environment of its own (docs/nemo_aligner.md)."""
    nemo_aligner: NemoAlignerConfig = NemoAlignerConfig()
    """Read with `backend: nemo-aligner` only."""

    def rule_violations(self) -> Iterator[str]:
        """What NeMo-Aligner's trainer cannot do is refused before anything starts."""
        yield from super().rule_violations()
        if self.backend == "nemo-aligner":
            yield from problems(self)
        elif self.nemo_aligner != NemoAlignerConfig():
            yield "nemo_aligner: only backend=nemo-aligner reads this section; set it, or leave the section out"


class RLSetStage(StageConfig):
    """Rows for Exploratory Learning: task rows and general rows with rationale."""

    kind: Literal["rl_set"]
    data: Artefact
    """Folder with train.jsonl, and if it has general rows general.jsonl."""
    held_out: HeldOutConfig = HeldOutConfig()
    held_out_rows: tuple[Artefact, ...] = ()
    """Files or folders of further held-out rows (test sets, benchmarks), in any JSON form."""
    general_rows: int | None = Field(None, ge=0)
    """So many general rows; unset takes all (RedOne 2.0: 50K beside 750K)."""


class DAPOStage(DAPOConfig, TrainingStage):
    """Reinforcement learning on a set of rows."""

    kind: Literal["dapo"]
    model: Artefact
    rows: Artefact
    reference: OptionalArtefact = None
    """Another reference model for `kl` than the one that training starts from."""
    backend: Literal["native", "nemo-aligner"] = "native"
    """Whose trainer drives the engine: ours, or one of NeMo-Aligner's shape in an environment of its own."""
    nemo_aligner: NemoEnvironmentConfig = NemoEnvironmentConfig()
    """Read with `backend: nemo-aligner` only."""

    def rule_violations(self) -> Iterator[str]:
        """Somebody reads the reference, and the environment of the other backend."""
        if self.backend == "native" and self.nemo_aligner != NemoEnvironmentConfig():
            yield "nemo_aligner: only backend=nemo-aligner reads this section; set it, or leave the section out"
        if self.reference is not None and not self.kl.needed:
            yield f"reference={self.reference!r} without kl: set kl.measure or kl.coefficient, or leave it out"
        yield from super().rule_violations()


class DiagnoseStage(DiagnosisConfig, ModelStage):
    """Answers to the diagnosis rows, or results made before, and the weak bucket."""

    kind: Literal["diagnose"]
    model: OptionalArtefact = None
    """Answers the diagnosis rows of `data`; or give `results`."""
    data: OptionalArtefact = None
    results: OptionalArtefact = None
    """Results made before: a folder of `redone evaluate`, of several, of a stage, or of another diagnosis."""
    against: tuple[Artefact, ...] = ()
    """Results of other models on the same rows (the base model, peers): the best of each task is its target."""
    earlier: tuple[Artefact, ...] = ()
    """Results of earlier stages on the same rows, in order, for the trend."""

    def rule_violations(self) -> Iterator[str]:
        """One source of results, one kind of target."""
        yield from super().rule_violations()
        if (self.model is None) == (self.results is None) or (self.model is None) != (self.data is None):
            yield (
                f"model={self.model}, data={self.data}, results={self.results}: give model and data, or results alone"
            )
        if self.against and {"threshold", "targets"} & self.model_fields_set:
            yield f"against={list(self.against)} beside threshold or targets; give one kind of target"


class TargetSetStage(TargetSetConfig, ModelStage):
    """Rows of the weak bucket and soft-labelled general rows."""

    kind: Literal["target_set"]
    model: Artefact
    data: Artefact
    """Folder with train.jsonl, and if it has general rows general.jsonl."""
    diagnosis: Artefact
    bucket: OptionalArtefact = None
    """An edited bucket file (a path with a slash); unset: the bucket of the diagnosis."""
    held_out_rows: tuple[Artefact, ...] = ()
    """Files or folders of further held-out rows (test sets, benchmarks), in any JSON form."""


class RefinementSetStage(RefinementSetConfig, ModelStage):
    """Rows by difficulty for the current model."""

    kind: Literal["refinement_set"]
    model: Artefact
    data: Artefact
    """Folder with train.jsonl, and if it has general rows general.jsonl."""
    held_out_rows: tuple[Artefact, ...] = ()
    """Files or folders of further held-out rows (test sets, benchmarks), in any JSON form."""


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
        InteractionLogsStage, InteractionsStage, GeneralTextStage, FilterStage, ToneModelStage,
        RegMixMixturesStage, RegMixProxiesStage, RegMixFitStage, TokenizerStage, TokenizeStage, PretrainStage,
        SynthesizeStage, SNSBenchRowsStage, SFTSetStage, DataStatsStage, SFTStage, JudgeAgreementStage, PairsStage,
        DPOStage, RLSetStage, DAPOStage, DiagnoseStage, TargetSetStage, RefinementSetStage, EvaluateStage,
        BaselinesStage,
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
    cluster: ClusterConfig | None = None
    """The machines that `--dry-run` computes time and memory for; without it, for none."""
    expect: ExpectConfig = ExpectConfig()
    """What the dry run takes for what only the data can tell."""
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


SECTION_DEFAULTS = ("parallel", "optimizer", "checkpoint", "generation", "overlong", "evaluate")


"""Top-level sections of a recipe that become defaults of its stages."""
