"""What becomes of a prompt that is longer than the limit. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence

from megatron_redone.generation.config import GenerationConfig


def fit_prompt(prompt: Sequence[int], config: GenerationConfig) -> Sequence[int] | None:
    """The prompt itself; over `max_prompt_tokens` its last tokens (`over_long: truncate`), or None (`drop`)."""
    if len(prompt) <= config.max_prompt_tokens:
        return prompt
    return prompt[-config.max_prompt_tokens :] if config.over_long == "truncate" else None
