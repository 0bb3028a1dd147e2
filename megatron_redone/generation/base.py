"""The seam between whoever wants completions and whatever engine makes them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from megatron_redone.generation.config import GenerationConfig


@dataclass(frozen=True)
class SamplingParams:
    """How to draw completions of a batch of prompts."""

    max_new_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    num_samples: int = 1
    stop_ids: tuple[int, ...] = ()
    seed: int = 0
    """With a prompt's key, the sample's number and the token's place it fixes every draw."""
    record_experts: bool = False
    """Give `Completion.experts`; the in-process generator alone can."""

    @classmethod
    def of(
        cls,
        config: GenerationConfig,
        stop_ids: Sequence[int],
        *,
        num_samples: int = 1,
        seed: int = 0,
        record_experts: bool = False,
    ) -> SamplingParams:
        """From the settings of a stage."""
        drawn = (config.max_new_tokens, config.temperature, config.top_p, num_samples, tuple(stop_ids), seed)
        return cls(*drawn, record_experts=record_experts)


@dataclass(frozen=True)
class Completion:
    """One answer."""

    token_ids: tuple[int, ...]
    """Up to and including the stop token, if it was reached."""
    logprobs: tuple[float, ...]
    """Of each token under softmax(logits / temperature), before top-p."""
    finish_reason: Literal["stop", "length"]
    version: int = 0
    """Of the weights that made it: what `update_weights` was last told."""
    experts: npt.NDArray[np.int16] | None = field(default=None, repr=False, compare=False)
    """[prompt and answer without its last token, expert layers, experts a token]: whom each token was sent to."""


class GenerationEngine(Protocol):
    """Makes completions. Every rank of a parallel job calls the methods alike and gets the same results."""

    def generate(
        self, prompts: Sequence[Sequence[int]], params: SamplingParams, keys: Sequence[str]
    ) -> list[list[Completion]]:
        """`num_samples` completions of each prompt; `keys` name the prompts for the random draws."""
        ...

    def update_weights(self, stream: Iterable[tuple[str, Any]], version: int) -> None:
        """Takes new weights as (Hugging Face name, whole tensor).

        Raises:
            CheckpointError: tensors are missing, unknown, twice there or of a wrong shape, all listed; the engine then
                has its old weights still, or answers nothing until it got a whole set, and says so.
        """
        ...

    def sleep(self) -> None:
        """Gives back memory until `wake_up`, as far as the engine can."""
        ...

    def wake_up(self) -> None:
        """Ready to generate again."""
        ...

    def close(self) -> None:
        """Frees what the engine holds."""
        ...
