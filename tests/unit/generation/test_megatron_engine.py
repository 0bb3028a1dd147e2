"""Cached, batched, ragged generation equals one uncached forward pass of the engine a token."""

from __future__ import annotations

import pytest
import torch

from megatron_redone.data.document import Document
from megatron_redone.generation.base import SamplingParams
from megatron_redone.generation.megatron_engine import MegatronGenerator
from megatron_redone.models.presets import PRESETS
from megatron_redone.parallel.context import ParallelContext
from megatron_redone.training.batches import pack
from megatron_redone.training.engine import MegatronEngine
from megatron_redone.verification.layout import SpreadWeights
from tests.distributed.layout_cases import shape_of

FAMILIES = ("llama-tiny", "qwen2.5-tiny", "qwen3-tiny", "qwen3-moe-tiny")


def engine_of(name: str, context: ParallelContext) -> MegatronEngine:
    engine = MegatronEngine(shape_of(name), context)
    engine.load_hf_weights(SpreadWeights(PRESETS[name], 5), "test weights")
    return engine


@pytest.mark.parametrize("name", FAMILIES)
def test_logprobs_equal_the_engines(name: str, parallel_context: ParallelContext) -> None:
    engine = engine_of(name, parallel_context)
    generator = MegatronGenerator(engine.model, parallel_context, max_sequences=6)
    prompts = [list(range(1, 1 + length)) for length in (3, 17, 8, 1, 12)]
    params = SamplingParams(max_new_tokens=9, num_samples=3, temperature=0.9, stop_ids=(2, 5), seed=1)
    groups = generator.generate(prompts, params, list("abcde"))
    assert [len(group) for group in groups] == [3] * 5
    for prompt, group in zip(prompts, groups, strict=True):
        for completion in group:
            ids = [*prompt, *completion.token_ids]
            mask = [0.0] * len(prompt) + [1.0] * len(completion.token_ids)
            batch = pack([Document(ids, mask, "x")], engine)
            logprobs = engine.logprobs([batch], temperature=0.9)[0][batch.logit_positions]
            torch.testing.assert_close(logprobs, torch.tensor(completion.logprobs), atol=1e-5, rtol=0)
            assert (completion.finish_reason == "stop") == (completion.token_ids[-1] in (2, 5))
            assert not set(completion.token_ids[:-1]) & {2, 5}
            assert len(completion.token_ids) <= 9


def test_greedy_equals_recomputing_every_token(parallel_context: ParallelContext) -> None:
    engine = engine_of("qwen3-tiny", parallel_context)
    prompt = [7, 3, 99, 12]
    params = SamplingParams(max_new_tokens=7, temperature=0.0)
    (completion,) = MegatronGenerator(engine.model, parallel_context).generate([prompt], params, ["x"])[0]
    ids = list(prompt)
    for _ in range(7):
        with torch.no_grad():
            logits = engine.rows.forward(
                engine.model[0], pack([Document([*ids, 0], [0.0] * len(ids) + [1.0], "x")], engine)
            )
        ids.append(int(logits[0].argmax()))
    assert list(completion.token_ids) == ids[len(prompt) :]


def test_samples_do_not_depend_on_batch_size_or_order(parallel_context: ParallelContext) -> None:
    engine = engine_of("qwen3-tiny", parallel_context)
    prompts, keys = [[1, 2, 3], [9] * 11, [4, 4]], ["p", "q", "r"]
    params = SamplingParams(max_new_tokens=5, num_samples=2, seed=8)
    whole = MegatronGenerator(engine.model, parallel_context, 64).generate(prompts, params, keys)
    small = MegatronGenerator(engine.model, parallel_context, 2).generate(prompts[::-1], params, keys[::-1])
    assert [[c.token_ids for c in group] for group in whole] == [[c.token_ids for c in group] for group in small[::-1]]
