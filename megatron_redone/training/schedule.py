"""The learning rate as a function of the step alone."""

from __future__ import annotations

import math

from megatron_redone.training.config import OptimizerConfig


def learning_rate(config: OptimizerConfig, step: int, num_steps: int) -> float:
    """The rate of optimizer step `step` (from 0) of `num_steps`.

    Warm-up rises linearly to the peak, which it reaches at its last step; then constant, linear or cosine down to
    `min_lr_ratio` times the peak at the last step.
    """
    warmup = config.warmup_steps
    if warmup is None:
        warmup = round(config.warmup_ratio * num_steps)
    if step < warmup:
        return config.lr * (step + 1) / warmup
    if config.schedule == "constant":
        return config.lr
    progress = min(1.0, (step - warmup) / max(1, num_steps - 1 - warmup))
    fall = 1.0 - progress if config.schedule == "linear" else 0.5 * (1.0 + math.cos(math.pi * progress))
    return config.lr * (config.min_lr_ratio + (1.0 - config.min_lr_ratio) * fall)
