"""Settings of data statistics. Imports no torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from megatron_redone.config.base import StrictModel
from megatron_redone.generation.config import GenerationConfig

Labeller = Literal["keywords", "model", "none"]


class DataStatsConfig(StrictModel):
    """What is counted of conversations, task rows or documents."""

    title: str = "Data"
    """Heading of the page."""
    format: Literal["auto", "openai", "alpaca", "sharegpt", "task_row", "document"] = "auto"
    """Format of the inputs; `auto` tells it row by row from the keys (`text` alone makes a document)."""
    latin_language: str = Field("en", min_length=1)
    """Language of a row in Latin letters that does not say its own."""
    labeller: Labeller = "keywords"
    """What names the two-level category of a row: the keywords of our taxonomy, or the model of `model`."""
    label_share: float = Field(1.0, gt=0, le=1)
    """Share of rows that are labelled, drawn by a hash of their ids; for a model that is slow."""
    label_batch: int = Field(64, ge=1)
    """Rows that are labelled together."""
    generation: GenerationConfig = GenerationConfig(temperature=0.0, max_new_tokens=24, over_long="truncate")
    """How the labelling model answers."""
