"""The rollout benchmark compares equal work: greedy sequences of all engines are the same."""

from __future__ import annotations

import pytest

from megatron_redone.benchmarks.rollout import RolloutBenchmarkConfig, measure_rollouts
from megatron_redone.common.errors import ConfigError
from megatron_redone.config.loading import validate
from megatron_redone.parallel.context import ParallelContext


def test_engines_do_the_same_work(parallel_context: ParallelContext) -> None:
    config = RolloutBenchmarkConfig(
        preset="qwen3-tiny",
        engines=("megatron", "transformers"),
        prompts=5,
        samples=2,
        prompt_tokens=12,
        new_tokens=6,
        temperature=0.0,
        max_sequences=6,
        rounds=2,
    )
    found = measure_rollouts(config, parallel_context)
    ours, theirs = found.engines
    assert (found.sequences, found.new_tokens, found.prompt_tokens) == (10, 60, sum((6, 8, 9, 10, 12)))
    assert ours.same_sequences == theirs.same_sequences == 1.0
    assert ours.ratio == 1.0 and theirs.ratio == pytest.approx(
        (ours.seconds[0] / theirs.seconds[0] + ours.seconds[1] / theirs.seconds[1]) / 2
    )
    assert ours.tokens_per_second > 0


def test_sampled_sequences_have_all_their_tokens(parallel_context: ParallelContext) -> None:
    config = RolloutBenchmarkConfig(
        preset="qwen3-tiny", engines=("transformers",), prompts=2, samples=3, prompt_tokens=6, new_tokens=4, rounds=1
    )
    assert measure_rollouts(config, parallel_context).new_tokens == 24


@pytest.mark.parametrize("engines", [[], ["megatron", "megatron"], ["trl"]])
def test_unknown_engines_are_refused(engines: list[str]) -> None:
    with pytest.raises(ConfigError, match=r"give some of megatron, transformers, vllm, each once"):
        validate(RolloutBenchmarkConfig, {"preset": "qwen3-tiny", "engines": engines}, "test")
