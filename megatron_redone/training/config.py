"""Settings of the optimizer, of batches and of the training stages. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from megatron_redone.config.base import StrictModel


class StepGuardConfig(StrictModel):
    """What becomes of a step whose loss or gradient is not finite, or jumps."""

    on_bad_step: Literal["skip", "stop"] = "skip"
    """Leave the step out and go on, or end the run; both name the samples of the step."""
    max_in_a_row: int = Field(5, ge=0)
    """When more steps than this in a row are bad, the run ends."""
    spike_factor: float | None = Field(None, gt=1)
    """A gradient whose norm is more than so many times the median of the last good ones is bad, too."""
    spike_window: int = Field(50, ge=2)
    """So many good steps make the median."""


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
    clip_grad: float = Field(1.0, ge=0)
    """Largest norm of the gradient of all parameters; 0: gradients are not clipped, and their norm is not computed."""
    router_aux_loss: float | None = Field(None, ge=0)
    """Coefficient of the load-balancing loss of experts (Switch Transformer, equation 4), over the tokens of one
    micro-batch; by default that of the model's config.json."""
    router_z_loss: float = Field(0.0, ge=0)
    """Coefficient of the routers' z-loss (ST-MoE, equation 5), a mean over tokens."""
    guard: StepGuardConfig = StepGuardConfig()


class TokenStageConfig(StrictModel):
    """What pretraining and SFT share: rows of packed tokens and how many of them."""

    sequence_length: int = Field(1024, ge=8)
    """Tokens of a packed row, which is one micro-batch."""
    global_batch_size: int = Field(8, ge=1)
    """Packed rows of an optimizer step, over all replicas."""
    epochs: float | None = Field(None, gt=0)
    """Passes over the data; give this or `steps`."""
    steps: int | None = Field(None, ge=1)
    """Optimizer steps; give this or `epochs`."""

    def rule_violations(self) -> Iterator[str]:
        """One measure of length."""
        if (self.epochs is None) == (self.steps is None):
            yield f"epochs={self.epochs} and steps={self.steps}: give exactly one of them"

    def num_steps(self, rows_per_epoch: int) -> int:
        """Optimizer steps of the stage."""
        if self.steps is not None:
            return self.steps
        assert self.epochs is not None
        return max(1, round(self.epochs * rows_per_epoch / self.global_batch_size))


class ValidationConfig(StrictModel):
    """Loss on the validation splits of the tokens, beside training."""

    every: int = Field(500, ge=1)
    """So many steps lie between two measurements; the last step is measured in any case."""
    samples: int = Field(64, ge=1)
    """Rows of `sequence_length` tokens of each corpus, the same ones every time."""


class PretrainConfig(TokenStageConfig):
    """Continued pretraining. The papers publish no figures for it: all defaults are ours."""

    optimizer: OptimizerConfig = OptimizerConfig(lr=1e-4)
    validation: ValidationConfig | None = None


class SFTConfig(TokenStageConfig):
    """Supervised fine-tuning on answers. Defaults are RedOne 2.0's: length 16,384 packed, batch 64, 2 epochs."""

    sequence_length: int = Field(16_384, ge=8)
    global_batch_size: int = Field(64, ge=1)
    optimizer: OptimizerConfig = OptimizerConfig(lr=5e-6)
    too_long: Literal["drop", "truncate"] = "drop"
    """A longer conversation is left out and counted, or loses its end."""
