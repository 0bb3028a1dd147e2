"""TRL's trainers as the peer of `redone benchmark rl`, where an environment with TRL is named: the same tokens read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from megatron_redone.benchmarks.part_clock import GENERATE, OLD_LOGPROBS, REWARD, UPDATE
from megatron_redone.benchmarks.rl import OURS, measure_alignment
from megatron_redone.benchmarks.rl_config import RLBenchmarkConfig
from megatron_redone.config.loading import validate

TOOL = Path(__file__).parents[2] / "tools" / "trl_rl.py"


def test_both_sides_take_the_same_steps(trl_python: Path, tmp_path: Path) -> None:
    settings = {
        "peer": f"{trl_python} -W ignore {TOOL}",
        "parts": ["dapo", "dpo"],
        "rounds": 1,
        "threads": 1,
        "max_other_cores": 1000.0,
        "dapo": {
            "prompts_per_rollout": 4,
            "responses_per_prompt": 2,
            "minibatch_prompts": 2,
            "max_new_tokens": 8,
            "peer_batches": [4],
            "steps": 1,
        },
        "dpo": {"pairs_per_step": 2, "max_length": 128, "peer_batches": [2], "steps": 1, "warmup": 1},
    }
    found = measure_alignment(validate(RLBenchmarkConfig, settings, "test"), tmp_path, os.environ, print)
    for part, tokens in (("dapo", "prompt_tokens"), ("dpo", "trained_tokens")):
        ours, theirs = (found[part]["sides"][name] for name in (OURS, found[part]["fastest_peer"]))
        assert ours["runs"][0][0][tokens] == theirs["runs"][0][0][tokens] > 0
        assert theirs["versions"]["trl"]
    step = found["dapo"]["sides"]["peer, 4 sequences at once"]["runs"][0][0]
    assert all(step["parts"][part] > 0 for part in (GENERATE, REWARD, OLD_LOGPROBS, UPDATE))
    assert sum(step["parts"].values()) == pytest.approx(step["seconds"])
    assert found["dapo"]["sides"][OURS]["new_tokens_per_step"] <= 8 * 8
