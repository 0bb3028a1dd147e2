"""The routers' losses and counts against their formulas, and padding that changes neither."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from megatron_redone.data.batch import PackedBatch
from megatron_redone.data.document import Document
from megatron_redone.models.presets import get_preset
from megatron_redone.models.router import Router
from megatron_redone.objectives.next_token import NextToken
from megatron_redone.parallel.context import ParallelContext
from megatron_redone.training.config import OptimizerConfig
from megatron_redone.training.engine import MegatronEngine
from megatron_redone.verification.layout import SpreadWeights

SHAPE = get_preset("qwen3-moe-tiny")


def engine_with(context: ParallelContext, aux: float, z: float) -> MegatronEngine:
    engine = MegatronEngine(SHAPE, context, OptimizerConfig(router_aux_loss=aux, router_z_loss=z, clip_grad=0))
    engine.load_hf_weights(SpreadWeights(SHAPE, 3), "test")
    return engine


def batch(length: int, padding: int = 0) -> PackedBatch:
    ids = torch.randint(0, SHAPE.vocab_size, (length,), generator=torch.Generator().manual_seed(5)).tolist()
    made = PackedBatch.from_documents([Document(ids, [1.0] * length, "one")])
    return made.padded_to(length + padding)


def gradients(engine: MegatronEngine, batches: list[PackedBatch]) -> dict[str, Tensor]:
    engine.accumulate_gradients(batches, NextToken())
    return {name: gradient.clone() for name, gradient in engine.export_hf_gradients()}


def routers(engine: MegatronEngine) -> list[Router]:
    return [module for module in engine.model.modules() if isinstance(module, Router)]


def by_formula(engine: MegatronEngine, length: int, aux: float, z: float) -> dict[str, Tensor]:
    """What both losses add to the gradients, by autograd over the formulas of the router's docstring."""
    logits: list[Tensor] = []
    hooks = [
        router.register_forward_hook(
            lambda module, inputs, _: logits.append(inputs[0].view(length, -1) @ module.weight.t())
        )
        for router in routers(engine)
    ]
    engine.rows.forward(engine.ddp[0], batch(length))
    for hook in hooks:
        hook.remove()
    total = torch.zeros(())
    for layer in logits:
        chosen = torch.zeros_like(layer).scatter(1, layer.topk(SHAPE.experts_per_token, dim=1).indices, 1.0)
        share = chosen.sum(0) / chosen.sum()
        total = total + aux * SHAPE.num_experts * (share * layer.softmax(-1).mean(0)).sum()
        total = total + z * torch.logsumexp(layer, dim=-1).square().mean()
    parameters = engine.model.parameters()
    found = torch.autograd.grad(total, list(parameters.values()), allow_unused=True)
    return {
        name: torch.zeros_like(parameter) if gradient is None else gradient
        for ((_, name), parameter), gradient in zip(parameters.items(), found, strict=True)
    }


@pytest.mark.parametrize(("aux", "z"), [(0.3, 0.0), (0.0, 0.2), (0.1, 0.1)])
def test_losses_add_the_gradients_of_their_formulas(parallel_context: ParallelContext, aux: float, z: float) -> None:
    plain, with_losses = engine_with(parallel_context, 0.0, 0.0), engine_with(parallel_context, aux, z)
    expected = by_formula(plain, 21, aux, z)
    without, found = gradients(plain, [batch(21)]), gradients(with_losses, [batch(21)])
    for layer in range(SHAPE.num_layers):
        name = f"model.layers.{layer}.mlp.gate.weight"
        wanted = expected[f"decoder.layers.{layer}.mlp.router.weight"]
        assert wanted.abs().max() > 1e-4
        torch.testing.assert_close(found[name] - without[name], wanted, rtol=1e-4, atol=1e-6)


def test_padding_changes_neither_losses_nor_counts(parallel_context: ParallelContext) -> None:
    engine = engine_with(parallel_context, 0.3, 0.2)
    bare, padded = gradients(engine, [batch(21)]), gradients(engine, [batch(21, padding=11)])
    for name, gradient in bare.items():
        torch.testing.assert_close(padded[name], gradient, rtol=1e-5, atol=1e-6)


def test_loads_count_the_choices_of_real_tokens(parallel_context: ParallelContext) -> None:
    engine = engine_with(parallel_context, 0.0, 0.0)
    metrics = engine.accumulate_gradients([batch(21, padding=11), batch(21)], NextToken())
    engine.accumulate_gradients([batch(10)], NextToken())
    one = engine.accumulate_gradients([batch(21)], NextToken())
    loads = [(metrics[f"expert_load_max/{n:02d}"], metrics[f"expert_load_min/{n:02d}"]) for n in range(1, 5)]
    assert loads == [(one[f"expert_load_max/{n:02d}"], one[f"expert_load_min/{n:02d}"]) for n in range(1, 5)]
    assert all(1.0 < most <= SHAPE.num_experts / SHAPE.experts_per_token and 0 <= least < 1 for most, least in loads)
