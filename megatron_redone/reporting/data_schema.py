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
