"""What is added to a task's score."""

from __future__ import annotations

from megatron_redone.rl.config import OverlongConfig


def overlong_penalty(num_tokens: int, max_tokens: int, config: OverlongConfig) -> float:
    """Soft overlong punishment (DAPO, equation 13): 0 up to max - buffer, then linearly down to -factor at max."""
    if config.buffer_tokens == 0:
        return 0.0
    beyond = num_tokens - (max_tokens - config.buffer_tokens)
    return min(0.0, -beyond / config.buffer_tokens * config.factor)
