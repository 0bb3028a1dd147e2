"""`online.json` of `redone online`: harmful-content detection, and search by a click model."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from megatron_redone.reporting.schema import ResultModel, Share

RESULT, PAGE = "online.json", "online.html"


class Measured(ResultModel):
    """A number with its 95% bootstrap interval."""

    value: float
    interval: tuple[float, float]


class DetectionAt(ResultModel):
    """A point of the curve over thresholds."""

    threshold: float
    precision: Share
    recall: Share
    f1: Share
    exposure_rate: Share
    """Of the exposures that are left, the share that shows a harmful note."""


class DetectionResult(ResultModel):
    """Harmful-content detection at a threshold."""

    scorer: str
    notes: int
    harmful: int
    choice_notes: int
    """Other notes, on which the threshold was chosen."""
    rule: str
    threshold: float
    measures: dict[str, Measured]
    """precision, recall, f1; exposure_rate_before, exposure_rate_after; exposure_rate_change (after / before - 1);
    harmless_exposures_withheld (share of the exposures of harmless notes)."""
    average_precision: Measured
    curve: tuple[DetectionAt, ...]
    refused: int = 0
    refused_messages: tuple[str, ...] = ()


class FittedModel(ResultModel):
    """A click model, and how well it foretells held-out pages."""

    name: str
    perplexity: float = Field(ge=1.0)
    """Mean over the places of 2^(-mean log2 probability of what was clicked or not); 1 is certainty."""
    perplexity_by_place: tuple[float, ...]
    log_likelihood: float
    """Mean over held-out pages, in nats."""
    parameters: dict[str, Any] = Field(default_factory=dict)


class ValueEstimate(ResultModel):
    """What a set of rankings is worth."""

    name: str
    estimator: str
    clicks: Measured
    """Expected clicks on a page."""
    click_page_rate: Measured | None = None
    """Share of the pages with a click; only click models tell it."""
    effective_pages: float | None = None
    """Kish's effective number of pages behind an importance-weighted estimate."""
    support: Share | None = None
    """Share of the places of the rankings that the logs have seen with the same note."""


class SearchResult(ResultModel):
    """Post-view search by a click model."""

    sessions: int
    pages: int
    held_out_pages: int
    clicks: int
    click_page_rate: Share
    """Of the logged pages."""
    unseen_share: Share
    """Share of the held-out impressions whose query and note were never together in training."""
    click_rate_by_place: tuple[float, ...]
    models: tuple[FittedModel, ...]
    """The first is the baseline: the click rate of each place."""
    estimates: tuple[ValueEstimate, ...]
    coverage: dict[str, int] = Field(default_factory=dict)
    """Rankings and queries that were given, and those that the logs know."""
    refused: int = 0
    refused_messages: tuple[str, ...] = ()
    settings: dict[str, Any] = Field(default_factory=dict)
