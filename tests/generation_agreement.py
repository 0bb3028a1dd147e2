"""Whether two engines gave the same completions, or how near a tie their first difference was."""

from __future__ import annotations

import torch

from megatron_redone.data.document import Document
from megatron_redone.generation.base import Completion, SamplingParams
from megatron_redone.generation.sampling import sequence_keys, uniforms
from megatron_redone.training.batches import pack
from megatron_redone.training.engine import MegatronEngine

TIE = 2e-5
"""Below this a choice is decided by rounding: in logits for the greedy choice, in probability for a draw."""
LOGPROB_TOLERANCE = 1e-3


def margin(
    engine: MegatronEngine, prompt: list[int], params: SamplingParams, key: int, before: tuple[int, ...]
) -> float:
    """How far the choice after `before` was from another one: the gap of the two largest logits, or the distance of
    the random number to the nearest border of the cumulative distribution, and how near top-p's cut was to another."""
    ids = [*prompt, *before]
    with torch.no_grad():
        batch = pack([Document([*ids, 0], [0.0] * len(ids) + [1.0], "x")], engine)
        logits = engine.rows.forward(engine.model[0], batch)[0].double()
    if params.temperature == 0.0:
        best = logits.topk(2).values
        return float(best[0] - best[1])
    weights = (logits / params.temperature).softmax(-1)
    if params.top_p < 1.0:
        ordered, order = weights.sort(descending=True)
        cut = ordered.cumsum(-1) - ordered
        kept = int((cut < params.top_p).sum())
        tied = float(ordered[kept - 1] - ordered[kept]) if kept < ordered.numel() else 1.0
        nearest = min(tied, float((cut - params.top_p).abs().min()))  # which tokens are left, and how many
        weights = torch.zeros_like(weights).scatter(-1, order, ordered.masked_fill(cut >= params.top_p, 0.0))
    else:
        nearest = 1.0
    cumulative = weights.cumsum(-1)
    number = uniforms(torch.tensor([key]), torch.tensor([len(before)]))
    return min(nearest, float((cumulative / cumulative[-1] - number).abs().min()))


def assert_agree(
    engine: MegatronEngine,
    prompts: list[list[int]],
    params: SamplingParams,
    keys: list[str],
    ours: list[list[Completion]],
    theirs: list[list[Completion]],
) -> int:
    """Same tokens, ends and log-probabilities; a sequence may part where its choice was a tie. The number that did."""
    drawn = sequence_keys(params.seed, keys, params.num_samples).view(len(prompts), -1).tolist()
    parted = 0
    for prompt, row, group, other in zip(prompts, drawn, ours, theirs, strict=True):
        for key, a, b in zip(row, group, other, strict=True):
            same = _common(a.token_ids, b.token_ids)
            torch.testing.assert_close(
                torch.tensor(a.logprobs[:same]), torch.tensor(b.logprobs[:same]), atol=LOGPROB_TOLERANCE, rtol=0
            )
            if a.token_ids == b.token_ids:
                assert a.finish_reason == b.finish_reason
                continue
            found = margin(engine, prompt, params, key, a.token_ids[:same])
            assert found < TIE, f"after {same} tokens of {a} and {b} the margin was {found}"
            parted += 1
    return parted


def _common(a: tuple[int, ...], b: tuple[int, ...]) -> int:
    pairs = zip(a, b, strict=False)
    return next((place for place, (x, y) in enumerate(pairs) if x != y), min(len(a), len(b)))
