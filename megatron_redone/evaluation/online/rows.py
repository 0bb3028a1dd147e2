"""One line of the files that online tasks read. Imports no torch."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from megatron_redone.config.base import StrictModel

Name = Annotated[str, StringConstraints(min_length=1, pattern=r"\S")]


class LabelledNote(StrictModel):
    """A note that people judged: `{"id": "n1", "text": "...", "harmful": false, "language": "en"}`."""

    id: Name
    text: str = ""
    """Needed where a model gives the score."""
    harmful: bool
    language: Literal["en", "zh"] = "en"
    exposures: float = Field(1.0, ge=0)
    """How often it was shown."""
    score: float | None = Field(None, ge=0, le=1)
    """By another system; larger where it finds the note more harmful."""


class NoteScore(StrictModel):
    """A score for a labelled note: `{"id": "n1", "score": 0.93}`."""

    id: Name
    score: float = Field(ge=0, le=1)


class OfferedRanking(StrictModel):
    """A ranking for a logged query: `{"query": "best tent", "ranking": ["n3", "n8"]}`."""

    query: Name
    ranking: tuple[Name, ...] = Field(min_length=1)


class OfferedQuery(StrictModel):
    """A query that a model offers below a note: `{"note": "n3", "query": "best tent"}`."""

    note: str = ""
    query: Name
