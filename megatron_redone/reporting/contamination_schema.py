"""`contamination.json`: how much of each benchmark stands in training files."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from megatron_redone.reporting.schema import ResultModel, Share

RESULT, ITEMS, PAGE = "contamination.json", "items.jsonl", "contamination.html"


class Overlap(ResultModel):
    """Items of a benchmark, of one of its files, or seen by one training file; each level holds those of the next."""

    items: int = Field(ge=0)
    judged: int = Field(ge=0)
    """Items with a text long enough to tell; the others are in no other number but `items`."""
    any_overlap: int = Field(ge=0)
    """Items of which at least one n-gram was found."""
    partial: int = Field(ge=0)
    """Items with a text of which at least `partial_share` of the n-grams were found."""
    contaminated: int = Field(ge=0)
    """The same with `contaminated_share`."""
    with_answer: int = Field(ge=0)
    """Items of which one training record holds `partial_share` of a text and a whole answer."""

    @property
    def contaminated_rate(self) -> float:
        """`contaminated` / `judged` in 0..1; 0 where none could be judged."""
        return self.contaminated / self.judged if self.judged else 0.0


class FileOverlap(ResultModel):
    """A file of a benchmark."""

    file: str
    overlap: Overlap


class Example(ResultModel):
    """An item with overlap, and the training record that holds most of it."""

    benchmark: str
    file: str
    index: int
    """Row of the file, from 0."""
    share: Share
    """The largest share of n-grams, over the item's texts, that all training files hold together."""
    record_share: Share
    """The largest share that one training record holds."""
    training: str
    """`file:line` of that record (of a document in token shards its number, from 0)."""
    with_answer: bool
    shared: str
    """The first n-gram found there, as units."""


class BenchmarkOverlap(ResultModel):
    """A benchmark."""

    name: str
    overlap: Overlap
    files: tuple[FileOverlap, ...]
    examples: tuple[Example, ...]


class TrainingFile(ResultModel):
    """A training file by itself."""

    path: str
    records: int = Field(ge=0)
    """Lines, blocks of a plain text, or documents of a token shard."""
    refused: int = Field(ge=0)
    overlap: Overlap
    by_benchmark: dict[str, int]
    """Items with any overlap, by benchmark."""


class ContaminationResult(ResultModel):
    """The whole check."""

    benchmarks: tuple[BenchmarkOverlap, ...]
    training: tuple[TrainingFile, ...]
    refused: int = Field(ge=0)
    refused_messages: tuple[str, ...]
    settings: dict[str, Any]
