"""Replicas that share experts take the same prompts; groups of replicas with experts of their own share the work."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from megatron_redone.generation.base import SamplingParams
from megatron_redone.generation.megatron_engine import MegatronGenerator, replicas_in_step
from megatron_redone.models.presets import get_preset
from megatron_redone.parallel.config import ParallelConfig
from megatron_redone.parallel.context import ParallelContext, build_context
from megatron_redone.training.engine import MegatronEngine
from megatron_redone.verification.layout import SpreadWeights
from tests.distributed.ranks import run_on_ranks

SHAPE = get_preset("qwen3-moe-tiny")
PROMPTS = [[5 + n, 6, 7][: 1 + n % 3] for n in range(8)]
KEYS = [str(n) for n in range(8)]
PARAMS = SamplingParams(5, num_samples=2, stop_ids=(24, 65, 175), seed=1, record_experts=True)


@pytest.mark.parametrize("tp", [1, 2, 3, 4])
@pytest.mark.parametrize("etp", [1, 2])
@pytest.mark.parametrize("ep", [1, 2, 4])
def test_replicas_in_step_are_those_that_experts_join(tp: int, etp: int, ep: int) -> None:
    """Against the definition: ranks of one replica or of one block of experts are joined, and so on."""
    world = math.lcm(tp, etp * ep) * 2
    group = list(range(world))
    for _ in range(world):  # joined ranks take the smallest number of theirs
        for size in (tp, etp * ep):
            for start in range(0, world, size):
                group[start : start + size] = [min(group[start : start + size])] * size
    of_first = len({rank // tp for rank in range(world) if group[rank] == 0})
    sizes = {"tp": tp, "etp": etp, "ep": ep}
    axes = SimpleNamespace(**{name: SimpleNamespace(size=size) for name, size in sizes.items()})
    assert replicas_in_step(cast(ParallelContext, axes)) == of_first


def answers(context: ParallelContext) -> tuple[list[Any], int]:
    """Completions with their experts, and how many prompts this rank read."""
    engine = MegatronEngine(SHAPE, context)
    engine.load_hf_weights(SpreadWeights(SHAPE, 3), "test")
    generator, read = MegatronGenerator(engine.model, context), 0
    draw = generator.next_tokens

    def counted(*args: Any, **kwargs: Any) -> Any:
        nonlocal read
        read += 0 if kwargs["decode"] else args[2].numel() - 1
        return draw(*args, **kwargs)

    generator.next_tokens = counted  # type: ignore[method-assign]
    groups = generator.generate(PROMPTS, PARAMS, KEYS)
    return [(one.token_ids, one.experts.tolist()) for group in groups for one in group], read  # type: ignore[union-attr]


def on_ranks(rank: int, world_size: int, store_file: str, layouts: list[dict[str, Any]], out: str) -> None:
    from torch.distributed import FileStore

    store = FileStore(store_file, world_size)
    found = []
    for layout in layouts:
        context = build_context(ParallelConfig(**layout), rank=rank, world_size=world_size, store=store)
        completions, read = answers(context)
        found.append((completions, context.gather_from_all(read)))
    if rank == 0:
        torch.save(found, out)


@pytest.mark.slow
@pytest.mark.distributed
def test_expert_groups_share_the_prompts(tmp_path: Path, parallel_context: ParallelContext) -> None:
    layouts = [{"ep": 2}, {"tp": 2, "ep": 2}, {"ep": 4}]
    run_on_ranks(on_ranks, 4, tmp_path, layouts, str(tmp_path / "found.pt"))
    found = torch.load(tmp_path / "found.pt", weights_only=True)
    expected, whole = answers(parallel_context)
    assert whole == 8
    for (completions, _), layout in zip(found, layouts, strict=True):
        assert completions == expected, layout
    assert [read for _, read in found] == [[4, 4, 4, 4], [4, 4, 4, 4], [8, 8, 8, 8]]
