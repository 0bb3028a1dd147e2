"""The configurations of stages that make data. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from megatron_redone.checkpoint.config import CheckpointConfig
from megatron_redone.config.artefact import Artefact, OptionalArtefact
from megatron_redone.curation.config import HeldOutConfig, SNSBenchRowsConfig
from megatron_redone.curation.filter.config import FilterConfig, ToneModelConfig
from megatron_redone.curation.interactions.config import GeneralTextConfig, InteractionsConfig, TrafficConfig
from megatron_redone.curation.pairs.config import JudgeAgreementConfig, PairsConfig
from megatron_redone.curation.regmix.config import RegMixFitConfig, RegMixMixturesConfig, RegMixProxiesConfig
from megatron_redone.curation.sft.config import SFTSetConfig
from megatron_redone.curation.stats.config import DataStatsConfig
from megatron_redone.curation.synthesize.config import SynthesizeConfig
from megatron_redone.curation.tokens.config import TokenizeConfig, TrainTokenizerConfig
from megatron_redone.recipes.stage_config import ModelStage, StageConfig


class SynthesizeStage(SynthesizeConfig, StageConfig):
    """Generated quickstart data: a corpus, rows in four splits, general rows."""

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


class TokenizerStage(TrainTokenizerConfig, StageConfig):
    """A SentencePiece tokenizer trained on a corpus."""

    kind: Literal["tokenizer"]
    corpus: Artefact
    """A JSONL file (.jsonl, .jsonl.gz) or a folder of such files; if names of some begin with `corpus`, of these."""


class TokenizeStage(TokenizeConfig, StageConfig):
    """A corpus as shards of Megatron's IndexedDataset."""

    kind: Literal["tokenize"]
    corpus: Artefact
    """A JSONL file (.jsonl, .jsonl.gz) or a folder of such files; if names of some begin with `corpus`, of these."""
    tokenizer: Artefact
    """Folder with tokenizer.json (Hugging Face) or with tokenizer.model (SentencePiece, of stage `tokenizer`)."""
    held_out: HeldOutConfig = HeldOutConfig()
    """What keeps a document out: rows of files of these names in the folder `corpus`, and of `held_out_rows`."""
    held_out_rows: tuple[Artefact, ...] = ()
    """Files or folders of further held-out rows (test sets, benchmarks), in any JSON form."""


class SFTSetStage(SFTSetConfig, StageConfig):
    """SFT sets of task rows and conversations, mixed by capability, task and general share."""

    kind: Literal["sft_set"]
    data: OptionalArtefact = None
    """Folder with task rows in train.jsonl, and if it has them general ones in general.jsonl."""
    sns: tuple[Artefact, ...] = ()
    """Files or folders of SNS rows or conversations (`format`)."""
    general: tuple[Artefact, ...] = ()
    """Files or folders of general instructions and dialogues."""
    tokenizer: OptionalArtefact = None
    """Counts tokens: finds conversations over `sequence_length` and measures packing."""
    held_out: HeldOutConfig = HeldOutConfig()
    """What keeps a row out: rows of files of these names in the folder `data`, and of `held_out_rows`."""
    held_out_rows: tuple[Artefact, ...] = ()
    """Files or folders of further held-out rows (test sets, benchmarks), in any JSON form."""

    def rule_violations(self) -> Iterator[str]:
        """Something to read; limits in tokens need a tokenizer."""
        yield from super().rule_violations()
        if self.data is None and not self.sns and not self.general:
            yield "data, sns and general are empty; name at least one input"
        beside = [name for name in ("sequence_length", "too_long") if name in self.model_fields_set]
        if self.tokenizer is None and beside:
            yield f"{' and '.join(beside)} would have no effect without a tokenizer; give one"


class DataStatsStage(DataStatsConfig, ModelStage):
    """Lengths, tasks, languages and categories of conversations, task rows or documents, with a page."""

    kind: Literal["stats"]
    data: tuple[Artefact, ...] = Field(min_length=1)
    """Files or folders."""
    tokenizer: OptionalArtefact = None
    """Lengths are in its tokens; without one, in characters."""
    model: OptionalArtefact = None
    """Model folder of the labelling model."""

    def rule_violations(self) -> Iterator[str]:
        """A labelling model where one is asked for."""
        yield from super().rule_violations()
        if (self.labeller == "model") != (self.model is not None):
            yield f"labeller={self.labeller} and model={self.model}: `model` names the model of labeller=model"


class RegMixMixturesStage(RegMixMixturesConfig, StageConfig):
    """Mixtures of domains for proxy runs to try."""

    kind: Literal["regmix_mixtures"]
    domains: dict[str, Artefact] = Field(default_factory=dict)
    """Domain -> its tokens (`tokenize`), which give the natural shares. Instead of `prior`."""

    def rule_violations(self) -> Iterator[str]:
        """One source of the natural shares."""
        if (self.prior is None) != (len(self.domains) > 0):
            yield f"prior={self.prior} and domains={sorted(self.domains)}: give exactly one of them"
        if len(self.domains) == 1:
            yield f"domains={sorted(self.domains)}; a mixture needs two at least"
        yield from super().rule_violations()


class RegMixProxiesStage(RegMixProxiesConfig, StageConfig):
    """A small training run for each mixture of a table, and its losses."""

    kind: Literal["regmix_proxies"]
    mixtures: Artefact
    """A CSV file, or a stage that wrote mixtures: `regmix_mixtures`, or `regmix_fit` to compare what it found."""
    domains: dict[str, Artefact] = Field(min_length=1)
    """Domain -> its tokens (`tokenize`)."""
    validation: dict[str, Artefact] = Field(min_length=1)
    """Name of a loss -> the held-out tokens it is measured on: the validation split of the folder, or all of it where
    it has none. No document of them should stand in `domains`."""
    tokenizer: Artefact
    finished: OptionalArtefact = None
    """A folder with finished runs of these settings, for example of all tasks of a Slurm array; they are taken over."""
    checkpoint: CheckpointConfig = CheckpointConfig()


class RegMixFitStage(RegMixFitConfig, StageConfig):
    """The mixture that a regression over proxy runs predicts to be the best for a target."""

    kind: Literal["regmix_fit"]
    mixtures: Artefact
    """Mixtures of the runs: a CSV file with a column `index` and one for each domain, or a `regmix_proxies` stage."""
    losses: OptionalArtefact = None
    """Losses of the same runs: a CSV file with a column `index` and one for each loss. By default what stands beside
    the mixtures."""
    test_mixtures: tuple[Artefact, ...] = ()
    """Tables of other runs that the fit is tested on."""
    test_losses: tuple[Artefact, ...] = ()
    """Their losses, in the same order; runs of larger models show how far the order of mixtures carries over."""

    def rule_violations(self) -> Iterator[str]:
        """Test tables in pairs, and there where they are needed."""
        if len(self.test_mixtures) != len(self.test_losses):
            yield (
                f"test_mixtures names {len(self.test_mixtures)} tables and test_losses {len(self.test_losses)}; "
                "give a table of losses for each table of mixtures"
            )
        if self.early_stop_on == "test" and not self.test_mixtures:
            yield "early_stop_on='test' needs test_mixtures and test_losses; give them, or choose 'folds'"
        yield from super().rule_violations()


class JudgeAgreementStage(JudgeAgreementConfig, ModelStage):
    """How well a judge agrees with people, and whether that is enough to label preference pairs."""

    kind: Literal["judge_agreement"]


class PairsStage(PairsConfig, ModelStage):
    """Preference pairs for DPO."""

    kind: Literal["pairs"]
    held_out: HeldOutConfig = HeldOutConfig()
    """What keeps a pair out: rows of files of these names beside those of `split`, and of `held_out_rows`."""
    held_out_rows: tuple[Artefact, ...] = ()
    """Files or folders of further held-out rows (test sets, benchmarks), in any JSON form."""


class FilterStage(FilterConfig, StageConfig):
    """Raw documents to kept ones, with an account of what was dropped."""

    kind: Literal["filter"]
    documents: tuple[Artefact, ...] = Field(min_length=1)
    """Files `*.jsonl`, `*.jsonl.gz`, and folders of them."""


class ToneModelStage(ToneModelConfig, StageConfig):
    """A classifier of offensive texts, for the stage `filter`."""

    kind: Literal["tone_model"]
    davidson: OptionalArtefact = None
    """Folder of Davidson et al.'s tweets (`labeled_data.csv`): English."""
    cold: OptionalArtefact = None
    """Folder of COLD (`train.csv`, `dev.csv`, `test.csv`): Chinese."""
    rows: OptionalArtefact = None
    """A JSONL file of own labels: `text`, `offensive`, `language`."""

    def rule_violations(self) -> Iterator[str]:
        """Something to learn from."""
        if self.davidson is None and self.cold is None and self.rows is None:
            yield "no labelled rows; give davidson, cold or rows"
        yield from super().rule_violations()
