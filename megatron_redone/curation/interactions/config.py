"""Settings of interaction logs, of the documents made of them, and of general texts. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from megatron_redone.config.base import StrictModel

Form = Literal["single_search", "consecutive_searches", "click_through"]


class InteractionsConfig(StrictModel):
    """How sessions of users become documents (RedOne, section 3.1.1: text grouped by the interaction that ties it)."""

    forms: tuple[Form, ...] = ("single_search", "consecutive_searches", "click_through")
    """Which of the three forms to write."""
    style: Literal["full", "compact"] = "full"
    """Wordings: full sentences in several variants, or the terse one of the quickstart."""
    max_clicks: int = Field(5, ge=1)
    """Notes told of one search, in the order they were opened; later ones are left out and counted."""
    max_rounds: int = Field(3, ge=2)
    """Searches told in one document of consecutive searches; a longer session is told in several."""
    single_share: float = Field(0.3, ge=0, le=1)
    """Share of the sessions with several searches that are told one search a document."""
    max_content_tokens: int = Field(400, ge=8)
    """A longer note is cut at a sentence border; in tokens as `segments.estimated_tokens` counts them."""
    min_users: int = Field(3, ge=1)
    """A query searched by fewer different users makes no click-through document."""
    num_clicked: int = Field(3, ge=1)
    """Notes clicked most that a click-through document tells."""
    max_not_clicked: int = Field(3, ge=1)
    """Notes shown and never clicked that it tells, those shown most often first."""
    max_searches: int = Field(2_000, ge=1)
    """Searches of one query that make one click-through document; a more frequent query makes several, by time."""

    def rule_violations(self) -> Iterator[str]:
        """Forms once each; users are among searches."""
        if not self.forms or len(set(self.forms)) < len(self.forms):
            yield f"forms={list(self.forms)}: name at least one form, and each once"
        if self.min_users > self.max_searches:
            yield f"min_users={self.min_users} is more than max_searches={self.max_searches} can hold; lower it"


class TrafficConfig(StrictModel):
    """A generated log: notes of the invented world, and users who search, click and read them."""

    num_notes: int = Field(2_000, ge=20)
    """Notes, each in English and in Chinese."""
    num_queries: int = Field(400, ge=1)
    """Different queries that are searched."""
    num_users: int = Field(500, ge=1)
    num_sessions: int = Field(2_000, ge=1)
    """Sessions, English and Chinese in turn."""
    num_shown: int = Field(8, ge=2)
    """Notes on a page of results."""
    zipf_exponent: float = Field(0.8, ge=0)
    """The k-th most frequent query (user, note) is met in proportion to k^-exponent; 0 makes all alike."""
    examination_exponent: float = Field(0.7, ge=0)
    """The result at place k is looked at with probability k^-exponent: people click what stands on top."""
    ranking_noise: float = Field(0.25, ge=0)
    """Spread of the search engine's guess of a note's relevance (0..1); 2 and more rank almost at random."""
    reading_sigma: float = Field(0.5, ge=0)
    """Spread (of the logarithm) of reading times; their median rises from 5 s for the least relevant note to 45 s."""
    advert_share: float = Field(0.1, ge=0, lt=1)
    """Share of advertisements among the notes."""
    max_searches: int = Field(4, ge=1)
    """Searches of one session."""


class GeneralTextConfig(StrictModel):
    """General texts as documents of about equal length (RedOne, section 3.1.1: segmented and concatenated)."""

    max_tokens: int = Field(2_048, ge=16)
    """Length of a document in tokens, as the sum over its sentences."""
    min_tokens: int = Field(1, ge=1)
    """Shorter documents (what is left at the end of a file) are dropped and counted."""
    join: bool = True
    """Put short texts of one language together up to `max_tokens`, a blank line between; else a text is a document."""

    def rule_violations(self) -> Iterator[str]:
        """The bounds leave lengths between them."""
        if self.min_tokens > self.max_tokens:
            yield f"min_tokens={self.min_tokens} is above max_tokens={self.max_tokens}; lower it"
