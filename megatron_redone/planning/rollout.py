"""Time and memory of drawing answers with vLLM, one engine of some ranks beside the other. Imports no torch.

One decoding step of an engine reads its weights and the keys and values of all sequences it holds, and gives a token
to each of them; it takes as long as that reading, or as its operations where they take longer, and a fixed time for
the start of each layer. Lengths of answers are exponential, cut at the longest, with the mean that is expected: while
prompts wait, the engine is full, then it runs empty, and the longest answers are drawn nearly alone (the tail).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from megatron_redone.models.config import ModelShape
from megatron_redone.planning.hardware import Accelerator

KEY_VALUE_BYTES = 2
"""Bytes of one number in the key-value cache (bf16)."""
LAYER_SECONDS = 15e-6
"""Start of a layer's kernels in a captured graph; with an engine of several ranks twice that. An assumption."""
STEP_SECONDS = 2e-3
"""Scheduling and sampling of one step on the host. An assumption."""
ENGINE_BYTES = 3 * 2**30
"""Activations, logits and captured graphs of vLLM beside weights and cache. An allowance."""
POINTS = 128
"""Where the running empty is evaluated."""


@dataclass(frozen=True)
class Drawing:
    """Answers that are drawn in one go, by all engines together."""

    responses: float
    prompt_tokens: float
    response_tokens: float
    """Mean."""
    longest_tokens: int
    """Bound of a response."""
    batches: float = 1.0
    """How often so many answers are drawn."""

    @property
    def tokens(self) -> float:
        """Drawn, of all batches."""
        return self.batches * self.responses * self.response_tokens


@dataclass(frozen=True)
class RolloutEngines:
    """vLLM on the ranks of a stage."""

    ranks: int
    """Of one engine, which share one copy of the weights."""
    engines: int
    memory_bytes: float
    """Of one rank, for weights, cache and the rest of vLLM."""
    max_sequences: int
    """Drawn at once by one engine."""


@dataclass(frozen=True)
class RolloutPlan:
    """What is expected of drawing."""

    weights_bytes: float
    """Of one rank."""
    cache_bytes: float
    """Left for keys and values on one rank; negative: weights alone do not fit."""
    sequence_bytes: float
    """Keys and values of the longest prompt and answer, on one rank."""
    at_once: float
    """Sequences an engine holds, in the mean of their lengths."""
    seconds: float
    """Of all batches."""
    tokens_per_second_per_rank: float
    tail_share: float
    """Share of the time in which no prompt waits."""

    @property
    def fits(self) -> bool:
        """Weights and one longest sequence."""
        return self.cache_bytes >= self.sequence_bytes


def key_value_bytes(shape: ModelShape) -> int:
    """Bytes that one token takes in the key-value cache."""
    return 2 * KEY_VALUE_BYTES * shape.num_layers * shape.num_kv_heads * shape.head_dim


def plan_rollout(
    shape: ModelShape, gpu: Accelerator, engines: RolloutEngines, drawing: Drawing, longest_prompt: int
) -> RolloutPlan:
    """Time of all batches, and what a rank holds."""
    weights = 2 * shape.num_parameters() / engines.ranks
    token = key_value_bytes(shape) / min(engines.ranks, shape.num_kv_heads)
    cache = engines.memory_bytes - weights - ENGINE_BYTES
    held = drawing.prompt_tokens + drawing.response_tokens / 2
    at_once = max(1.0, min(engines.max_sequences, cache / (token * held)))
    each = drawing.responses / engines.engines
    step = _Step(shape, gpu, engines.ranks, token)
    at_once = min(at_once, max(1.0, each))
    waiting = max(0.0, each - at_once) * drawing.response_tokens / at_once * step.seconds(at_once, held)
    tail = _emptying(step, at_once, drawing)
    seconds = drawing.batches * (waiting + tail)
    return RolloutPlan(
        weights_bytes=weights,
        cache_bytes=cache,
        sequence_bytes=token * (longest_prompt + drawing.longest_tokens),
        at_once=at_once,
        seconds=seconds,
        tokens_per_second_per_rank=drawing.tokens / seconds / (engines.engines * engines.ranks),
        tail_share=tail / (waiting + tail),
    )


class _Step:
    """Time of a decoding step of one engine."""

    def __init__(self, shape: ModelShape, gpu: Accelerator, ranks: int, token_bytes: float) -> None:
        self.shape, self.gpu, self.ranks, self.token_bytes = shape, gpu, ranks, token_bytes
        experts = 0.0
        if shape.is_moe:
            experts = shape.num_layers * shape.num_experts * 3.0 * shape.hidden_size * shape.moe_ffn_hidden_size
        self.experts, self.dense = 2 * experts, 2 * (shape.num_parameters() - experts)
        self.fixed = STEP_SECONDS + shape.num_layers * LAYER_SECONDS * (2 if ranks > 1 else 1)

    def seconds(self, sequences: float, held: float) -> float:
        """With so many sequences of so many tokens."""
        read = self.dense / self.ranks + sequences * held * self.token_bytes
        if self.shape.is_moe:
            touched = 1 - (1 - self.shape.experts_per_token / self.shape.num_experts) ** sequences
            read += touched * self.experts / self.ranks
        operations = 2.0 * self.shape.num_parameters(active=True) * sequences / self.ranks
        computing = operations / (self.gpu.peak * self.gpu.kernels.dense)
        return self.fixed + max(read / (self.gpu.memory_bandwidth * self.gpu.rollout_share), computing)


def _emptying(step: _Step, at_once: float, drawing: Drawing) -> float:
    """Seconds from the last waiting prompt on: steps with those whose answers are longer."""
    longest = drawing.longest_tokens
    rate = _rate(min(drawing.response_tokens, 0.999 * longest), longest)
    width, total = longest / POINTS, 0.0
    for point in range(POINTS):
        drawn = (point + 0.5) * width
        alive = at_once * math.exp(-rate * drawn)
        if alive < 0.5:  # no longer one, in the mean
            break
        total += width * step.seconds(max(1.0, alive), drawing.prompt_tokens + drawn)
    return total


def _rate(mean: float, longest: float) -> float:
    """Of an exponential length that, cut at `longest`, has this mean: mean = (1 - exp(-rate longest)) / rate."""
    low, high = 1e-9, 1e3
    for _ in range(200):
        middle = math.sqrt(low * high)
        if (1 - math.exp(-middle * longest)) / middle > mean:
            low = middle
        else:
            high = middle
    return low


def sync_seconds(shape: ModelShape, gpu: Accelerator, engines: RolloutEngines, *, asleep: bool) -> float:
    """New weights to every engine: they pass over the network once, and an engine that slept fetches its own."""
    whole = 2 * shape.num_parameters()
    waking = whole / engines.ranks / gpu.host_bandwidth if asleep else 0.0
    return whole / gpu.network_bandwidth + waking
