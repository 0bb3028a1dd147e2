"""Our way of drawing tokens inside vLLM, as one of its logits processors.

vLLM draws with a generator of its own, and its log-probabilities are either those before the temperature or those
after top-p. Here the token is drawn by `sampling.draw` from the very random numbers that the in-process generator
takes: equal logits give equal tokens, whatever is in the batch beside them. All other logits become -inf, and that of
the drawn token becomes its log-probability under softmax(logits / temperature), so that vLLM's greedy choice takes it
and its "processed logits" report it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from vllm.config import VllmConfig
from vllm.sampling_params import SamplingParams as VLLMSamplingParams
from vllm.v1.sample.logits_processor import BatchUpdate, LogitsProcessor
from vllm.v1.sample.logits_processor.builtin import process_dict_updates

from megatron_redone.generation.sampling import draw, uniforms

EXTRA = "redone"
"""Key of a request's extra arguments that holds [key of the sequence, temperature, top_p]."""


@dataclass(frozen=True)
class _Row:
    """A sequence of the running batch."""

    key: int
    temperature: float
    top_p: float
    drawn: list[int]
    """Its tokens so far: vLLM's own list, which grows."""


class KeyedDraws(LogitsProcessor):
    """Draws the token of every row of the batch."""

    def __init__(self, vllm_config: VllmConfig, device: torch.device, is_pin_memory: bool) -> None:
        self.rows: dict[int, _Row] = {}

    def is_argmax_invariant(self) -> bool:
        """No: it decides the argmax, so vLLM runs it before a greedy choice."""
        return False

    def update_state(self, batch_update: BatchUpdate | None) -> None:
        """Follows the sequences as they enter, leave and move in the batch."""
        process_dict_updates(self.rows, batch_update, _row)

    def apply(self, logits: Tensor) -> Tensor:
        """One finite logit a row: at the drawn token, its log-probability."""
        by_way: dict[tuple[float, float], list[int]] = {}
        for index, row in self.rows.items():
            by_way.setdefault((row.temperature, row.top_p), []).append(index)
        for (temperature, top_p), indices in by_way.items():
            keys = torch.tensor([self.rows[i].key for i in indices])
            places = torch.tensor([len(self.rows[i].drawn) for i in indices])
            here = torch.tensor(indices, device=logits.device)
            uniform = uniforms(keys, places).to(logits.device)
            tokens, logprobs = draw(logits[here], uniform, temperature, top_p)
            logits[here] = float("-inf")
            logits[here, tokens] = logprobs
        return logits


def _row(params: VLLMSamplingParams, prompt: list[int] | None, drawn: list[int]) -> _Row | None:
    extra: Any = (params.extra_args or {}).get(EXTRA)
    return None if extra is None else _Row(int(extra[0]), float(extra[1]), float(extra[2]), drawn)
