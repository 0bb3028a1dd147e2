"""Settings of the quickstart data generator. Imports no torch."""

from __future__ import annotations

import difflib
from typing import Annotated

from pydantic import Field, field_validator

from megatron_redone.config.base import StrictModel

TASK_NAMES = (
    "note_taxonomy_single",
    "query_classification",
    "query_intent",
    "note_security",
    "gender_sensitive_appeal",
    "hashtag_single",
    "hashtag_multiple",
    "note_ner",
    "highlight_words",
    "query_note_relevance",
    "question_document_match",
    "query_note_retrieval",
    "post_view_search",
    "emotional_companion",
    "note_translation_zh_en",
    "note_translation_en_zh",
    "arithmetic",
)
"""Every task that rows can be written for."""

EvenCount = Annotated[int, Field(ge=0, multiple_of=2)]


class RowsPerTask(StrictModel):
    """Rows of each task in each split; even, because half are English and half Chinese."""

    train: EvenCount = 360
    validation: EvenCount = 40
    diagnosis: EvenCount = 100
    test: EvenCount = 100

    def of(self, split: str) -> int:
        """Rows of each task in `split`."""
        return {
            "train": self.train,
            "validation": self.validation,
            "diagnosis": self.diagnosis,
            "test": self.test,
        }[split]


Share = Annotated[float, Field(ge=0, le=1)]


class FaultShares(StrictModel):
    """Documents with faults that are added to the corpus, as shares of `corpus_documents`; none by default."""

    exact_copy: Share = 0.0
    """An earlier document again."""
    near_copy: Share = 0.0
    """An earlier document of at least 40 units with a few words more."""
    page: Share = 0.0
    """A web page: far more markup than text."""
    markup: Share = 0.0
    """A note inside tags."""
    repetition: Share = 0.0
    """A note eight times over."""
    private: Share = 0.0
    """A note with a phone number and an e-mail address."""
    encoding: Share = 0.0
    """A note that was decoded wrongly (Chinese) or has unreadable characters (English)."""
    held_out: Share = 0.0
    """A quotation of a test row: what no model may train on."""


class SynthesizeConfig(StrictModel):
    """What to write: tasks, rows of each in each split, general rows, documents of the pretraining corpus."""

    tasks: tuple[str, ...] = Field(default=TASK_NAMES, min_length=1)
    rows: RowsPerTask = RowsPerTask()
    general_rows: EvenCount = 800
    """Sums with rationale, of the train split and other than the rows of the task `arithmetic`."""
    corpus_documents: int = Field(default=12_000, ge=0)
    """Clean documents of the corpus."""
    faults: FaultShares = FaultShares()

    @field_validator("tasks")
    @classmethod
    def _known_tasks(cls, tasks: tuple[str, ...]) -> tuple[str, ...]:
        for name in tasks:
            if name not in TASK_NAMES:
                near = difflib.get_close_matches(name, TASK_NAMES, n=1, cutoff=0.0)[0]
                raise ValueError(f"{name!r} is no task that rows can be written for; the nearest is {near!r}")
        if len(set(tasks)) < len(tasks):
            raise ValueError("a task stands twice; name each once")
        return tasks
