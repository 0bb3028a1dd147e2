"""`titles.json` of `redone online titles`: what candidates chosen by engagement and faithfulness are worth."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from megatron_redone.reporting.online_schema import Measured
from megatron_redone.reporting.schema import ResultModel, Share

RESULT, PAGE, CHOSEN = "titles.json", "titles.html", "titles.jsonl"


class TitlePoint(ResultModel):
    """The best of the first `num_candidates` candidates of each note, by one weight."""

    weight: Share
    """Of engagement in the reward; faithfulness has the rest."""
    num_candidates: int = Field(ge=1)
    engagement: Measured
    """Mean of the chosen titles, 0..1."""
    faithfulness: Measured
    distorted: Share
    """Share of the chosen titles that lose, flip or invent a fact."""


class TitleExample(ResultModel):
    """A note with the titles that two weights choose."""

    id: str
    title: str
    faithful: str
    """Chosen by faithfulness alone (weight 0)."""
    chosen: str
    """Chosen by the reported weight."""
    engaging: str
    """Chosen by engagement alone (weight 1)."""
    lost: str
    """What the last one distorts, "" for nothing."""


class TitleResult(ResultModel):
    """The trade-off."""

    engagement_by: str
    """What measured engagement, in words; a stand-in says so."""
    notes: int
    num_candidates: int
    weight: Share
    """The reported weight."""
    original: TitlePoint | None = None
    """The titles as they were (1 of 1 candidate)."""
    points: tuple[TitlePoint, ...]
    examples: tuple[TitleExample, ...]
    unscored: int = 0
    """Candidates without an engagement score (unreadable replies); they are never chosen if another has one."""
    unreadable: int = 0
    """Candidates that are no title: empty, several lines."""
    settings: dict[str, Any] = Field(default_factory=dict)
