"""The trajectory that every layout must reproduce: losses, weights, log-probabilities and samples of a tiny model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from megatron_redone.data.document import Document
from megatron_redone.generation.base import SamplingParams
from megatron_redone.generation.megatron_engine import MegatronGenerator
from megatron_redone.generation.token_scores import Continuation, MegatronTokenScorer
from megatron_redone.models.config import ModelShape
from megatron_redone.models.presets import get_preset
from megatron_redone.objectives.dapo import DAPO
from megatron_redone.objectives.next_token import NextToken
from megatron_redone.parallel.config import ParallelConfig
from megatron_redone.parallel.context import ParallelContext, build_context
from megatron_redone.training.batches import balanced_microbatches
from megatron_redone.training.config import OptimizerConfig
from megatron_redone.training.engine import MegatronEngine
from megatron_redone.verification.layout import SpreadWeights

LEARNING_RATE = 1e-2
EPSILON = 1e-3
"""Of Adam. With 1e-8 a first step is the sign of the gradient, which rounding decides where it is near 0."""
SIGNALS = ("advantages", "old_logprobs")


def shape_of(name: str) -> ModelShape:
    """A preset, with a vocabulary that two ranks do not divide where the name says so."""
    if name.endswith("+odd"):
        return get_preset(name.removesuffix("+odd")).model_copy(update={"vocab_size": 251})
    return get_preset(name)


def documents(step: int, vocab_size: int) -> list[Document]:
    """Documents of uneven lengths; in one of them a single token is labelled."""
    generator = torch.Generator().manual_seed(step)
    found = []
    for index, length in enumerate((5, 31, 2, 17, 9, 24, 12)):
        ids = torch.randint(0, vocab_size, (length,), generator=generator).tolist()
        labelled = 1 if index == 1 else max(1, length // 2)
        noise = torch.randn(2, length, generator=generator)
        found.append(
            Document(
                ids,
                [0.0] * (length - labelled) + [1.0] * labelled,
                f"document-{step}-{index}",
                {"advantages": noise[0].tolist(), "old_logprobs": (noise[1] * 0.3 - 5.5).tolist()},
            )
        )
    return found


def answers(vocab_size: int) -> list[Document]:
    """Documents of which six are answers to two prompts, in an order that mixes them."""
    generator = torch.Generator().manual_seed(9)
    prompts = torch.randint(0, vocab_size, (2, 18), generator=generator).tolist()
    found = []
    for index, (which, length) in enumerate(((0, 6), (1, 3), (0, 1), (1, 9), (0, 13), (1, 7))):
        ids = [*prompts[which], *torch.randint(0, vocab_size, (length,), generator=generator).tolist()]
        advantages, noise = torch.randn(2, len(ids), generator=generator)
        signals = {"advantages": advantages.tolist(), "old_logprobs": (noise * 0.3 - 5.5).tolist()}
        found.append(Document(ids, [0.0] * 18 + [1.0] * length, f"answer-{index}", signals))
    return [*found, *documents(9, vocab_size)[:3]]


def trajectory(context: ParallelContext, shape: ModelShape, max_tokens: int = 40) -> dict[str, Any]:
    """Two next-token steps and three of DAPO (the last with shared prompts), then log-probabilities and samples."""
    engine = MegatronEngine(shape, context, OptimizerConfig(lr=LEARNING_RATE, weight_decay=0.1, epsilon=EPSILON))
    engine.load_hf_weights(SpreadWeights(shape, 7), "test weights")
    metrics = []
    for step, objective in enumerate((NextToken(), DAPO(), NextToken(), DAPO())):
        batches, _ = balanced_microbatches(documents(step, shape.vocab_size), max_tokens, engine, SIGNALS)
        metrics.append(engine.train_step(batches, objective, LEARNING_RATE))
    shared, _ = balanced_microbatches(answers(shape.vocab_size), max_tokens, engine, SIGNALS, share_prompts=True)
    metrics.append(engine.train_step(shared, DAPO(), LEARNING_RATE))
    generator = MegatronGenerator(engine.model, context, max_sequences=8)
    prompts = [list(range(3, 3 + length)) for length in (4, 11, 7)]
    params = SamplingParams(max_new_tokens=6, num_samples=2, stop_ids=(1,), seed=3)
    completions = generator.generate(prompts, params, ["a", "b", "c"])
    ((greedy,),) = generator.generate(prompts[:1], SamplingParams(max_new_tokens=3, temperature=0.0), ["g"])
    asked = [Continuation(prompts[0], greedy.token_ids), Continuation(prompts[1], (9,)), Continuation(prompts[1], (8,))]
    scores = MegatronTokenScorer(generator, max_tokens=16).score([*asked, Continuation((5,), (6, 7, 8))])
    return {
        "loss": [step["loss"] for step in metrics],
        "grad_norm": [step["grad_norm"] for step in metrics],
        "clip_share": [metrics[step]["clip_share"] for step in (1, 3, 4)],
        "entropy": [metrics[step]["entropy"] for step in (1, 3, 4)],
        "weights": {name: tensor.clone() for name, tensor in engine.export_hf_weights()},
        "alone": [c.token_ids for c in generator.generate(prompts[:1], params, ["a"])[0]],  # replicas without a prompt
        "tokens": [[c.token_ids for c in group] for group in completions],
        "logprobs": [[c.logprobs for c in group] for group in completions],
        "scores": [score.logprobs for score in scores],
        "greedy": [score.is_greedy for score in scores],
    }


def run_cases(rank: int, world_size: int, store_file: str, cases: list[tuple[str, dict[str, Any]]], out: str) -> None:
    """Every case on these ranks, one after the other; rank 0 saves what each gave."""
    store = dist.FileStore(store_file, world_size)
    results = []
    for name, layout in cases:
        context = build_context(ParallelConfig(**layout), rank=rank, world_size=world_size, store=store)
        results.append(trajectory(context, shape_of(name)))
    if rank == 0:
        torch.save(results, Path(out))
    dist.barrier()
