"""Settings of sampling. Imports no torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from megatron_redone.config.base import StrictModel


class GenerationConfig(StrictModel):
    """How completions are drawn."""

    engine: Literal["megatron"] = "megatron"
    """The in-process generator on the engine's own weights."""
    temperature: float = Field(1.0, ge=0)
    """0 takes the most likely token."""
    top_p: float = Field(1.0, gt=0, le=1)
    """Draw from the smallest set of tokens with this probability."""
    max_new_tokens: int = Field(64, ge=1)
    max_prompt_tokens: int = Field(1024, ge=1)
    """Longest prompt; see `over_long`."""
    over_long: Literal["drop", "truncate"] = "drop"
    """A longer prompt is left out and counted, or loses its first tokens."""
    max_sequences: int = Field(256, ge=1)
    """Sequences generated at once (bounds the memory of the key-value cache)."""
