"""Settings of benchmark rows, diagnosis, the targeted set and the refinement set. Imports no torch."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import Annotated

from pydantic import Field

from megatron_redone.config.base import StrictModel
from megatron_redone.generation.config import GenerationConfig

SNS_BENCH_FILES = (
    "Note-Gender",
    "Note-Taxonomy-single",
    "Note-Taxonomy-multiple",
    "Note-Hashtag-single",
    "Note-Hashtag-multiple",
    "Note-QueryCorr-explain",
    "Note-QueryCorr-topic",
    "Note-NER",
    "Note-CHLW",
)
"""Files of SNS-Bench that rows can be made of: those with short answers."""


class SNSBenchRowsConfig(StrictModel):
    """Which rows to make of which SNS-Bench files."""

    tasks: tuple[str, ...] = Field(min_length=1)
    """Names of files without .json, for example Note-Gender."""
    shares: tuple[float, float, float] = (0.5, 0.2, 0.3)
    """Shares of train, diagnosis and test in the texts; they add up to 1."""
    max_rows_per_task: tuple[int | None, int | None, int | None] = (None, None, None)
    """At most so many rows of each task in train, diagnosis and test; null sets no limit."""
    max_prompt_words: int = Field(220, ge=1)
    """Longer prompts are left out and counted."""
    general_rows: int = Field(0, ge=0)
    """Small sums, as rows of general ability."""

    def rule_violations(self) -> Iterator[str]:
        """Known files, each once; shares of a whole; limits that leave something."""
        for name in self.tasks:
            if name not in SNS_BENCH_FILES:
                near = difflib.get_close_matches(name, SNS_BENCH_FILES, n=1)
                hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(SNS_BENCH_FILES)}"
                yield f"tasks names {name!r}, which is no file that rows can be made of; {hint}"
        if len(set(self.tasks)) < len(self.tasks):
            yield f"tasks={list(self.tasks)} has repeats; each file once"
        if min(self.shares) <= 0 or abs(sum(self.shares) - 1) > 1e-6:
            yield f"shares={list(self.shares)} must be above 0 and add up to 1"
        if any(limit is not None and limit < 1 for limit in self.max_rows_per_task):
            yield f"max_rows_per_task={list(self.max_rows_per_task)} has a limit below 1; null sets none"


class DiagnosisConfig(StrictModel):
    """Which tasks are failures after stage 1."""

    threshold: float = Field(60.0, ge=0, le=100)
    """The target of every task without one of its own: a task is weak when its score is shown to lie below."""
    targets: dict[str, Annotated[float, Field(ge=0, le=100)]] = Field(default_factory=dict)
    """Targets of single tasks in 0..100."""
    false_discovery_rate: float = Field(0.01, gt=0, lt=1)
    """Expected share of healthy tasks among those named weak (Benjamini and Hochberg over the tasks)."""
    min_gap: float = Field(0.0, ge=0, le=100)
    """Points by which a score must lie below its target; a smaller gap is not worth a stage."""
    min_rows: int = Field(8, ge=1)
    """A task with fewer rows is not judged."""
    min_tasks: int = Field(1, ge=0)
    """So many tasks are weak even if fewer are shown to be: the lowest of the others join. 0: only those shown."""
    max_tasks: int | None = Field(None, ge=1)
    """At most so many, the largest gaps first."""
    examples_per_kind: int = Field(2, ge=0)
    """Failed answers of each kind and task that are kept to be read."""
    num_resamples: int = Field(10_000, ge=1000)
    """Draws where a task's score is no mean of its rows, and where two models are compared. They bound p-values from
    below: with 80 tasks and a rate of 0.01 a single weak task needs 8,000."""
    generation: GenerationConfig = GenerationConfig(temperature=0.0)

    def rule_violations(self) -> Iterator[str]:
        """The bounds leave a number of tasks."""
        if self.max_tasks is not None and self.max_tasks < self.min_tasks:
            yield f"max_tasks={self.max_tasks} is less than min_tasks={self.min_tasks}; raise it or lower min_tasks"


class SoftLabelConfig(StrictModel):
    """Best-of-n targets for general rows (RedOne 2.0: 8 candidates of the stage-1 model, the best by a judge)."""

    num_candidates: int = Field(8, ge=1)
    floor: float = Field(0.5, ge=0, le=1)
    """A row is left out when its best candidate's quality is below this."""
    correctness_weight: float = Field(0.8, ge=0, le=1)
    """Weight of the task score in the composite quality; the rest is confidence (mean token probability)."""
    max_length_ratio: float | None = Field(3.0, ge=1)
    """A candidate of over 32 tokens is passed over where it is so many times as long as the median of its row's
    candidates; null: never. Scores and judges tend to favour length."""
    min_distinct: float = Field(0.5, ge=0, le=1)
    """A candidate of 20 or more words (or Chinese characters) is passed over where a smaller share of its 4-grams are
    different ones: it repeats itself."""
    max_overlap: float = Field(0.8, ge=0, le=1)
    """Likewise where a larger share of its 8-grams stands in answers kept before: the set would say one thing often."""
    generation: GenerationConfig = GenerationConfig(temperature=1.0)


class HeldOutConfig(StrictModel):
    """What keeps a training row out of a set: the id of a held-out row, or most of a held-out text."""

    files: tuple[str, ...] = ("validation.jsonl", "diagnosis.jsonl", "test.jsonl")
    """Names of the held-out files that the folder of the training rows may hold."""
    ngram_units: int = Field(13, ge=2)
    """Words or Han and kana characters in a row that must be shared (GPT-3's 13)."""
    min_units: int = Field(8, ge=1)
    """A shorter held-out text is compared as a whole, from this length on."""
    share: float = Field(0.8, gt=0, le=1)
    """Share of a held-out text's n-grams in a training row from which on the row is left out (Llama 2's border)."""
    max_rows_per_ngram: int = Field(10, ge=1)
    """N-grams that stand in more held-out rows of a file belong to its prompt or options and do not count."""


class RowWeightsConfig(StrictModel):
    """How rare but important rows are drawn sooner."""

    rarity_power: float = Field(0.5, ge=0, le=1)
    """Weight of a row: (rows of the commonest answer of its task / rows of its answer) to this power; 0: all alike."""
    max_rarity: float = Field(4.0, ge=1)
    """The factor is at most this."""
    max_answer_share: float = Field(0.1, gt=0, le=1)
    """Only in tasks with at most so many different answers a row: where nearly every answer differs, none is rare."""


class TargetSetConfig(StrictModel):
    """Rows of the weak bucket, stratified by capability, and general rows with soft labels."""

    num_rows: int = Field(1_700_000, ge=1)
    """SNS rows; fewer when the bucket has fewer."""
    general_share: float = Field(100_000 / 1_800_000, ge=0, lt=1)
    """Share of general rows in the whole set (RedOne 2.0: 100K of 1.8M)."""
    healthy_share: float = Field(0.0, ge=0, lt=1)
    """Share, in the whole set, of rows of tasks outside the bucket, soft-labelled like the general rows. Ours, for
    models so small that they forget a task within one stage; the paper relies on the general rows."""
    weights: RowWeightsConfig = RowWeightsConfig()
    held_out: HeldOutConfig = HeldOutConfig()
    soft_labels: SoftLabelConfig = SoftLabelConfig()

    def rule_violations(self) -> Iterator[str]:
        """Something is left for the bucket."""
        if self.general_share + self.healthy_share >= 1:
            yield (
                f"general_share={self.general_share:g} + healthy_share={self.healthy_share:g} leaves nothing for the "
                "weak tasks; their sum must be below 1"
            )


class RefinementSetConfig(StrictModel):
    """Training rows for Refinement Learning, difficult ones first."""

    num_rows: int = Field(400_000, ge=1)
    rationale_share: float = Field(0.5718, ge=0, le=1)
    """Share of rows that ask for a rationale (RedOne 2.0: 57.18%); fewer when there are fewer."""
    num_samples: int = Field(8, ge=2)
    """Responses per row that measure its difficulty."""
    num_candidates: int | None = Field(None, ge=1)
    """Rows whose difficulty is measured, balanced over tasks; unset measures all."""
    held_out: HeldOutConfig = HeldOutConfig()
    generation: GenerationConfig = GenerationConfig()

    def rule_violations(self) -> Iterator[str]:
        """A choice needs something to choose from."""
        if self.num_candidates is not None and self.num_candidates < self.num_rows:
            yield (
                f"num_candidates={self.num_candidates} is less than num_rows={self.num_rows}; measure at least as many"
            )
