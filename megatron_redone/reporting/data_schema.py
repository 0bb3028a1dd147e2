"""Result files about data sets: written by `redone curate`, read by pages. JSON, one model a file.

<sft_set folder>/set.json, <sft_set folder>/step1/set.json, ...   SFTSetResult
<stats folder>/stats.json                                         DataStatsResult
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from megatron_redone.reporting.schema import ResultModel, Share


class RowCount(ResultModel):
    """Rows of one kind."""

    rows: int = Field(ge=0)
    share: Share
    """Of all rows of the set."""


class TaskRows(ResultModel):
    """What a task was to get, and what it got."""

    part: Literal["sns", "general"]
    capability: str
    task: str
    available: int = Field(ge=0)
    """Different rows in the inputs."""
    rows: int = Field(ge=0)
    """Rows in the set; repeated ones count as often as they stand."""
    share_asked: Share
    """Of the set, by the weights alone."""
    share_reached: Share
    sampling_rate: float = Field(ge=0)
    """rows / available."""
    bound: Literal["", "floor", "all rows"] = ""
    """What moved the share from what was asked: the least number of rows, or the end of the rows."""


class PackingResult(ResultModel):
    """Packing of a set by best fit, the longest first."""

    sequence_length: int = Field(ge=1)
    """Tokens of a packed row."""
    packed_rows: int = Field(ge=0)
    efficiency: Share
    """Tokens of conversations / tokens of packed rows."""


class LengthSummary(ResultModel):
    """Lengths, in tokens or characters."""

    count: int = Field(ge=0)
    total: int = Field(ge=0)
    median: int = Field(ge=0)
    """Smallest length that at least half of all do not exceed; the next likewise."""
    p95: int = Field(ge=0)
    longest: int = Field(ge=0)


class SFTSetResult(ResultModel):
    """`set.json`: what a set holds, beside what was asked for."""

    rows: int = Field(ge=0)
    different_rows: int = Field(ge=0)
    num_rows_asked: int | None
    general_share_asked: float | None
    general_share: Share
    """Reached."""
    tasks: tuple[TaskRows, ...]
    by_capability: dict[str, RowCount]
    by_language: dict[str, RowCount]
    by_source: dict[str, RowCount]
    tokens: LengthSummary | None = None
    """Lengths of the conversations; null without a tokenizer, like the next."""
    packing: PackingResult | None = None
    settings: dict[str, Any]
    """The mix."""
    seed: int


class LengthBar(ResultModel):
    """Things with a length from `low` up to, but not with, `high`."""

    low: float = Field(gt=0)
    high: float = Field(gt=0)
    count: int = Field(ge=0)


class LengthResult(ResultModel):
    """Lengths and their distribution on a log axis."""

    summary: LengthSummary
    bars: tuple[LengthBar, ...]


class TaskLengths(ResultModel):
    """One task of the data."""

    task: str
    capability: str
    rows: int = Field(ge=0)
    median: int = Field(ge=0)
    p95: int = Field(ge=0)


class DataStatsResult(ResultModel):
    """`stats.json`: what a data set holds."""

    title: str
    inputs: tuple[str, ...]
    unit: Literal["tokens", "characters"]
    rows: int = Field(ge=0)
    conversations: int = Field(ge=0)
    """Rows with turns; the others are documents."""
    refused: int = Field(ge=0)
    repeated_ids: int = Field(ge=0)
    """Rows whose id stood before; they are counted all the same."""
    lengths: LengthResult
    """Of whole rows, with the marks of the chat template where there is a tokenizer."""
    answers: LengthResult | None
    """Of single answers; null without conversations."""
    turns: dict[str, int]
    """Conversations by their number of answers."""
    tasks: tuple[TaskLengths, ...]
    capabilities: dict[str, int]
    languages: dict[str, int]
    sources: dict[str, int]
    labeller: str
    """`keywords`, the name of a model, or `none`."""
    labelled: int = Field(ge=0)
    """Rows that were given to the labeller."""
    unreadable_labels: int = Field(ge=0)
    """Of these, rows for which it named no category of the taxonomy."""
    areas: dict[str, int]
    topics: dict[str, int]
    """`area / topic` -> rows."""
