"""Choices of experts are recorded and replayed alike on every layout: two ranks equal one process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

from megatron_redone.data.document import Document
from megatron_redone.generation.base import SamplingParams
from megatron_redone.generation.megatron_engine import MegatronGenerator
from megatron_redone.models.expert_choices import EXPERTS
from megatron_redone.models.presets import get_preset
from megatron_redone.objectives.next_token import NextToken
from megatron_redone.parallel.config import ParallelConfig
from megatron_redone.parallel.context import ParallelContext, build_context
from megatron_redone.rl.layer_comparison import cached_logprobs
from megatron_redone.rl.router_replay import replay_names, replay_signals
from megatron_redone.training.batches import balanced_microbatches
from megatron_redone.training.config import OptimizerConfig
from megatron_redone.training.document_logprobs import document_logprobs
from megatron_redone.training.engine import MegatronEngine
from megatron_redone.verification.layout import SpreadWeights
from tests.distributed.ranks import run_on_ranks

pytestmark = pytest.mark.slow

SHAPE = get_preset("qwen3-moe-tiny")
PROMPTS = [[5, 6, 7, 8, 9], [11, 12], [21, 22, 23, 24]]
LAYOUTS: list[dict[str, Any]] = [
    {"tp": 2, "ep": 2}, {"tp": 2, "etp": 2}, {"pp": 2}, {"ep": 2}, {}, {"cp": 2}, {"recompute": "full"},
]  # fmt: skip


def replayed(context: ParallelContext) -> dict[str, Any]:
    """Answers with their experts; then log-probabilities and a step of a model whose routers were moved since."""
    engine = MegatronEngine(SHAPE, context, OptimizerConfig(lr=1e-2, weight_decay=0.0, epsilon=1e-3))
    engine.load_hf_weights(SpreadWeights(SHAPE, 3), "test")
    generator = MegatronGenerator(engine.model, context)
    params = SamplingParams(5, num_samples=2, stop_ids=(24, 65, 175), seed=1, record_experts=True)
    answers = [one for s in generator.generate(PROMPTS, params, ["a", "b", "c"]) for one in s]
    documents, rotated = [], []
    for place, one in enumerate(answers):
        prompt = PROMPTS[place // 2]
        assert one.experts is not None
        signals = replay_signals(one, len(prompt))
        moved = {name: [(v % SHAPE.num_experts) + 1 if v else 0 for v in values] for name, values in signals.items()}
        mask = [0.0] * len(prompt) + [1.0] * len(one.token_ids)
        documents.append(Document([*prompt, *one.token_ids], mask, "one", signals))
        rotated.append(Document([*prompt, *one.token_ids], mask, "one", moved))
    own = document_logprobs(documents, 40, engine)
    changed = engine.take_choices_changed()
    other = document_logprobs(rotated, 40, engine)
    all_changed = engine.take_choices_changed()
    cached = cached_logprobs(engine, PROMPTS[0], answers[0].token_ids, 1.0)
    batches, _ = balanced_microbatches(rotated, 40, engine, replay_names(engine))
    assert all(name.startswith(EXPERTS) for name in batches[0].signals)
    step = engine.train_step(batches, NextToken(), 1e-2)
    return {
        "experts": [torch.from_numpy(one.experts.astype("int64")) for one in answers if one.experts is not None],
        "own": own,
        "other": other,
        "cached": [cached],
        "changed": [changed, all_changed],
        "step": [step["loss"], step["grad_norm"]],
        "weights": {name: tensor.clone() for name, tensor in engine.export_hf_weights()},
    }


def run_layouts(rank: int, world_size: int, store_file: str, out: str) -> None:
    store = dist.FileStore(store_file, world_size)
    found = [
        replayed(build_context(ParallelConfig(**layout), rank=rank, world_size=world_size, store=store))
        for layout in LAYOUTS
    ]
    if rank == 0:
        torch.save(found, Path(out))
    dist.barrier()


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("replay")
    run_on_ranks(run_layouts, 2, folder, str(folder / "results.pt"))
    loaded: list[dict[str, Any]] = torch.load(folder / "results.pt", weights_only=True)
    return loaded


@pytest.mark.parametrize("place", range(len(LAYOUTS)), ids=[str(layout) for layout in LAYOUTS])
def test_a_layout_records_and_replays_as_one_process_does(
    place: int, results: list[dict[str, Any]], parallel_context: ParallelContext
) -> None:
    one, found = replayed(parallel_context), results[place]
    assert all(a.equal(b) for a, b in zip(one["experts"], found["experts"], strict=True))
    for name in ("own", "other", "cached"):
        for a, b in zip(one[name], found[name], strict=True):
            assert b == pytest.approx(a, abs=2e-5)
    assert found["changed"] == pytest.approx(one["changed"], abs=1e-9)
    assert one["changed"][0] == 0.0
    assert one["changed"][1] > 0.5
    assert found["step"] == pytest.approx(one["step"], rel=1e-4)
    for name, weight in one["weights"].items():
        assert torch.allclose(found["weights"][name], weight, atol=2e-5), name
