"""vLLM in the processes of a job: each rank answers its share, all get the same, and a split model's weights arrive.

Needs vLLM: `make test-vllm`.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from torch.distributed import FileStore

from megatron_redone.generation.base import SamplingParams
from megatron_redone.generation.config import GenerationConfig
from megatron_redone.generation.factory import engine_for_model
from megatron_redone.generation.megatron_engine import MegatronGenerator
from megatron_redone.models.presets import PRESETS
from megatron_redone.parallel.config import ParallelConfig
from megatron_redone.parallel.context import build_context, shutdown
from megatron_redone.training.engine import MegatronEngine
from megatron_redone.verification.layout import SpreadWeights
from tests.distributed.ranks import run_on_ranks

pytest.importorskip("vllm", reason="vLLM is not installed; make test-vllm runs this in an environment that has it")
pytestmark = [pytest.mark.vllm, pytest.mark.distributed]

CONFIG = GenerationConfig.model_validate(
    {"engine": "vllm", "max_prompt_tokens": 20, "max_new_tokens": 8, "vllm": {"kv_cache_gib": 0.05}}
)


def answers_agree(rank: int, world_size: int, store_file: str, layout: dict[str, int]) -> None:
    store = FileStore(store_file, world_size)
    context = build_context(ParallelConfig(**layout), rank=rank, world_size=world_size, store=store)
    trainer = MegatronEngine(PRESETS["qwen3-tiny"], context)
    trainer.load_hf_weights(SpreadWeights(trainer.shape, 5), "test weights")
    ours = MegatronGenerator(trainer.model, context)
    theirs = engine_for_model(CONFIG, trainer.model, context, trainer.export_hf_weights)
    prompts, keys = [[n + 1] * (n + 2) for n in range(7)], list("abcdefg")
    params = SamplingParams(max_new_tokens=8, num_samples=2, seed=1, stop_ids=(9,))
    for seed in (6, 5):
        found = theirs.generate(prompts, params, keys)
        expected = ours.generate(prompts, params, keys)
        assert [[c.token_ids for c in g] for g in found] == [[c.token_ids for c in g] for g in expected]
        trainer.load_hf_weights(SpreadWeights(trainer.shape, seed), "test weights")
        theirs.update_weights(trainer.export_hf_weights(), version=seed)
    theirs.close()
    context.barrier()  # the group stands after vLLM has gone
    shutdown()


@pytest.mark.parametrize("layout", [{}, {"tp": 2}], ids=["dp2", "tp2"])
def test_two_ranks_answer_as_the_generator_does(layout: dict[str, int], tmp_path: Path) -> None:
    run_on_ranks(answers_agree, 2, tmp_path, layout)
