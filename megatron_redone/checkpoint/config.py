"""Settings of the checkpoints inside a stage. Imports no torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from megatron_redone.config.base import StrictModel


class CheckpointConfig(StrictModel):
    """How often a training stage is checkpointed, which checkpoints stay, and what a damaged one means."""

    every: int = Field(50, ge=1)
    """Steps between checkpoints. A stop writes one as well; after the last step the model is the output."""
    keep_last: int = Field(2, ge=1)
    """So many of the newest stay."""
    keep_every: int | None = Field(None, ge=1)
    """Those of steps that are a multiple of this stay as well."""
    in_background: bool = True
    """Train on while a copy of the state is written; needs host memory for the copy."""
    on_damage: Literal["refuse", "older"] = "older"
    """When the newest one is damaged: end the run, or tell it and go on from the next older one."""


DEFAULT_CHECKPOINTS = CheckpointConfig()
