"""Settings of the optimizer and of batches. Imports no torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from megatron_redone.config.base import StrictModel


class OptimizerConfig(StrictModel):
    """AdamW with a warm-up and a schedule. The betas are those of RedOne's SFT."""

    lr: float = Field(1e-5, gt=0)
    """Peak learning rate."""
    min_lr_ratio: float = Field(0.0, ge=0, le=1)
    """Learning rate at the end of a cosine or linear schedule, as a share of the peak."""
    schedule: Literal["constant", "linear", "cosine"] = "cosine"
    warmup_ratio: float = Field(0.1, ge=0, le=1)
    """Share of all optimizer steps over which the rate rises linearly (unless `warmup_steps` is given)."""
    warmup_steps: int | None = Field(None, ge=0)
    """Optimizer steps of warm-up."""
    beta1: float = Field(0.9, ge=0, lt=1)
    beta2: float = Field(0.95, ge=0, lt=1)
    epsilon: float = Field(1e-8, gt=0)
    weight_decay: float = Field(0.1, ge=0)
    """Not applied to norms and biases."""
    clip_grad: float = Field(1.0, gt=0)
    """Largest norm of the gradient of all parameters."""


class CheckpointConfig(StrictModel):
    """When a stage saves itself while it runs."""

    every_steps: int = Field(100, ge=1)
    """Steps between checkpoints; the newest is kept, and removed when the stage is done."""
