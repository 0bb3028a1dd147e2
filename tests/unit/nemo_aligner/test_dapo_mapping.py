"""Every setting of the DAPO loop has a word in NeMo-Aligner's style, and comes back from it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from megatron_redone.common.errors import ConfigError
from megatron_redone.config.loading import apply_overrides, validate
from megatron_redone.nemo_aligner.dapo_mapping import from_nemo, to_nemo
from megatron_redone.nemo_aligner.mapping import leaves
from megatron_redone.parallel.config import ParallelConfig
from megatron_redone.recipes.config import DAPOStage
from megatron_redone.rl.config import DAPOConfig

FILE = Path("gpt_dapo.yaml")
CHANGED: dict[str, Any] = {
    "num_rollouts": 7, "prompts_per_rollout": 12, "responses_per_prompt": 3, "minibatch_prompts": 4,
    "max_tokens_per_microbatch": 777, "clip_ratio_low": 0.1, "clip_ratio_high": 0.4, "dual_clip": None,
    "normalisation": "group_mean", "importance_cap": 2.0, "entropy_coefficient": 0.01,
    "kl": {"coefficient": 0.1, "measure": True, "estimator": "k2"},
    "agreement": {"measure": False, "max_mean": None, "max_p99": 3.0}, "reward_weights": {"metric": 2.0},
    "over_sampling": 1.5, "shares": "trained", "curriculum": "hard_first", "max_generation_batches": 3,
    "record_rollouts": False, "guards": False, "task_balance": 0.25, "warmup_rollouts": 4,
    "overlong": {"buffer_tokens": 5, "factor": 0.5, "filter": True},
    "generation": {"temperature": 0.9, "top_p": 0.8, "max_new_tokens": 32, "max_prompt_tokens": 100, "engine": "vllm",
                   "max_sequences": 9, "over_long": "truncate", "vllm": {"kv_cache_gib": 0.5}},
    "optimizer": {"lr": 2e-6, "schedule": "cosine", "min_lr_ratio": 0.1, "beta1": 0.8, "beta2": 0.9, "epsilon": 1e-7,
                  "weight_decay": 0.2, "clip_grad": 0.5, "guard": {"spike_factor": 9.0}},
}  # fmt: skip


@pytest.mark.parametrize("changes", [{}, CHANGED, {"warmup_rollouts": 0}, {"warmup_rollouts": 2}])
def test_there_and_back(changes: dict[str, Any]) -> None:
    config = validate(DAPOConfig, changes, "test")
    found = from_nemo(to_nemo(config, ParallelConfig(tp=2, precision="bf16"), 7), FILE)
    assert (found.pop("parallel.tp"), found.pop("parallel.precision"), found.pop("seed")) == (2, "bf16", 7)
    found = {name: value for name, value in found.items() if not name.startswith("parallel.")}
    data = apply_overrides({}, [f"{name}={json.dumps(value)}" for name, value in found.items()])
    back = validate(DAPOConfig, data, "back")
    expected, got = dict(leaves(config.model_dump())), dict(leaves(back.model_dump()))
    assert got.keys() == expected.keys()
    for name, value in expected.items():
        if name == "warmup_rollouts" and value == 1:
            value = 0
        if name == "optimizer.warmup_ratio":
            continue  # the stage reads warmup_rollouts in its place
        assert got[name] == (pytest.approx(value) if isinstance(value, float) else value), name


def test_every_unknown_key_is_told_at_once() -> None:
    tree = {
        "trainer": {"devices": 8, "dapo": {"max_steps": 5, "max_epochs": 3, "surprise": 1}},
        "model": {
            "global_batch_size": 10,
            "dapo": {
                "num_rollouts_per_prompt": 4,
                "clip_ratio": 0.2,
                "minibatch_prompts": 4,
                "optimizer": {"beta1": 0.5},
            },
            "optim": {"sched": {"name": "Noam"}},
        },
        "exp_manager": {"anything": True},
    }
    with pytest.raises(ConfigError) as caught:
        from_nemo(tree, FILE)
    for part in (
        "trainer.dapo.surprise=1: no such key is known here",
        "trainer.dapo.max_epochs=3: only 1 is understood here",
        "model.dapo.clip_ratio=0.2: no such key is known here",
        "model.dapo.minibatch_prompts=4: no such key is known here",  # global_batch_size says it
        "model.dapo.optimizer.beta1=0.5: no such key is known here",
        "model.optim.sched.name='Noam': one of",
        "model.global_batch_size=10 is not divisible by 4 answers",
    ):
        assert part in str(caught.value)
    assert "devices" not in str(caught.value)


def test_words_of_its_own_are_read() -> None:
    tree = {
        "model": {
            "global_batch_size": 64,
            "dapo": {
                "num_rollouts_per_prompt": 16,
                "ratio_eps_high": 0.3,
                "entropy_bonus": 0.01,
                "sampling_params": {"temperature": 0.7, "top_k": 0},
                "length_params": {"max_length": 99, "min_length": 1},
                "reward_weights": {"exact_match": 2.0},
            },
        },
    }
    assert from_nemo(tree, FILE) == {
        "responses_per_prompt": 16, "clip_ratio_high": 0.3, "entropy_coefficient": 0.01, "generation.temperature": 0.7,
        "generation.max_new_tokens": 99, "reward_weights.exact_match": 2.0, "minibatch_prompts": 4,
    }  # fmt: skip


def test_the_section_is_read_by_its_backend_only() -> None:
    given = {"kind": "dapo", "model": "m", "rows": "r", "nemo_aligner": {"python": "other/python"}}
    with pytest.raises(ConfigError, match=r"nemo_aligner: only backend=nemo-aligner reads this section"):
        validate(DAPOStage, given, "test")
    assert validate(DAPOStage, {**given, "backend": "nemo-aligner"}, "test").nemo_aligner.python == Path("other/python")
