"""Drawing tokens by counter-based random numbers.

The uniform number of a draw is a hash of (seed, prompt key, sample number, token place), so a sample does not
depend on batch order, layout or what was drawn before it.

Shape legend: B sequences, V vocabulary.
"""

from __future__ import annotations

import torch
from torch import Tensor

from megatron_redone.common.seeding import derive_seed

_STEP = -7046029254386353131  # 0x9E3779B97F4A7C15 as a signed 64-bit number (the golden-ratio step of splitmix64)
_MIX_1 = -4658895280553007687  # 0xBF58476D1CE4E5B9
_MIX_2 = -7723592293110705685  # 0x94D049BB133111EB


def sequence_keys(seed: int, keys: list[str], num_samples: int) -> Tensor:
    """A 63-bit key [len(keys) * num_samples] of every sequence, samples of a prompt side by side."""
    return torch.tensor([derive_seed(seed, key, sample) for key in keys for sample in range(num_samples)])


def uniforms(keys_B: Tensor, places_B: Tensor) -> Tensor:
    """Uniform numbers [B] in (0, 1), fp64: splitmix64 of key and place."""
    state = keys_B + (places_B + 1) * _STEP
    state = (state ^ _shift_right(state, 30)) * _MIX_1
    state = (state ^ _shift_right(state, 27)) * _MIX_2
    state = state ^ _shift_right(state, 31)
    return (_shift_right(state, 11).double() + 0.5) * 2.0**-53


def _shift_right(value: Tensor, bits: int) -> Tensor:
    """Logical right shift of signed 64-bit numbers."""
    return (value >> bits) & ((1 << (64 - bits)) - 1)


def draw(logits_BV: Tensor, uniform_B: Tensor, temperature: float, top_p: float) -> tuple[Tensor, Tensor]:
    """Tokens [B] and their log-probabilities [B] under softmax(logits / temperature).

    The log-probability is that of the whole distribution, also where top-p cuts its tail, as the trainer's is.
    """
    logits_BV = logits_BV.float()
    if temperature == 0.0:
        tokens = logits_BV.argmax(-1)
        return tokens, logits_BV.log_softmax(-1).gather(-1, tokens[:, None]).squeeze(-1)
    logprobs_BV = (logits_BV / temperature).log_softmax(-1)
    weights = logprobs_BV.exp()
    if top_p < 1.0:
        ordered, order = weights.sort(dim=-1, descending=True, stable=True)
        beyond = ordered.cumsum(-1) - ordered >= top_p
        weights = torch.zeros_like(weights).scatter(-1, order, ordered.masked_fill(beyond, 0.0))
    cumulative = weights.double().cumsum(-1)
    target = uniform_B.to(cumulative.device)[:, None] * cumulative[:, -1:]
    tokens = torch.searchsorted(cumulative, target).squeeze(-1).clamp(max=logits_BV.size(-1) - 1)
    return tokens, logprobs_BV.gather(-1, tokens[:, None]).squeeze(-1)
