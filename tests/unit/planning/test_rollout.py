"""Drawing answers: bounds that hold whatever the figures are, and how the plan moves with its parts."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from megatron_redone.models.presets import get_preset
from megatron_redone.planning.hardware import get_accelerator
from megatron_redone.planning.rl_records import RL_RECORDS, expect_step, fit_share, leave_one_out_steps
from megatron_redone.planning.rollout import (
    Drawing,
    RolloutEngines,
    RolloutPlan,
    _rate,
    key_value_bytes,
    plan_rollout,
    sync_seconds,
)

SHAPE, GPU = get_preset("qwen3-8b"), get_accelerator("h200")
ENGINES = RolloutEngines(ranks=1, engines=8, memory_bytes=0.5 * GPU.memory_bytes, max_sequences=256)
DRAWING = Drawing(responses=8192, prompt_tokens=500, response_tokens=1000, longest_tokens=8192)


def planned(engines: RolloutEngines = ENGINES, drawing: Drawing = DRAWING, name: str = "qwen3-8b") -> RolloutPlan:
    return plan_rollout(get_preset(name), GPU, engines, drawing, longest_prompt=2048)


def test_memory_of_an_engine_is_weights_cache_and_the_allowance() -> None:
    plan = planned()
    assert plan.weights_bytes == 2 * SHAPE.num_parameters()
    assert plan.weights_bytes + plan.cache_bytes + 3 * 2**30 == ENGINES.memory_bytes
    assert key_value_bytes(SHAPE) == 2 * 2 * 36 * 8 * 128
    assert plan.sequence_bytes == key_value_bytes(SHAPE) * (2048 + 8192)
    assert planned(replace(ENGINES, ranks=4, engines=2)).sequence_bytes == plan.sequence_bytes / 4
    assert planned(replace(ENGINES, ranks=16, engines=1)).sequence_bytes == plan.sequence_bytes / 8  # eight heads


def test_weights_that_do_not_fit_are_told() -> None:
    assert planned().fits
    small = planned(replace(ENGINES, memory_bytes=12 * 2**30))
    assert small.cache_bytes < 0 and not small.fits
    tight = replace(ENGINES, memory_bytes=planned().weights_bytes + 3 * 2**30 + planned().sequence_bytes - 1)
    assert not planned(tight).fits


def test_an_engine_holds_what_the_cache_and_the_setting_allow() -> None:
    assert planned(replace(ENGINES, max_sequences=10)).at_once == 10
    cache = planned().cache_bytes / (key_value_bytes(SHAPE) * (500 + 1000 / 2))
    assert planned(replace(ENGINES, max_sequences=100_000)).at_once == pytest.approx(min(cache, 1024))
    assert planned(drawing=replace(DRAWING, responses=8)).at_once == 1


def test_drawing_is_never_faster_than_reading_the_weights_and_the_keys_and_values() -> None:
    plan = planned()
    bandwidth = GPU.memory_bandwidth * GPU.rollout_share
    held = DRAWING.response_tokens * 1024 * key_value_bytes(SHAPE) * DRAWING.prompt_tokens
    assert plan.seconds > held / bandwidth
    assert plan.seconds > 1024 * 1000 / 256 * plan.weights_bytes / bandwidth


def test_time_moves_with_answers_engines_and_bandwidth() -> None:
    base = planned().seconds
    assert planned(drawing=replace(DRAWING, batches=3)).seconds == pytest.approx(3 * base)
    assert base < planned(drawing=replace(DRAWING, responses=2 * 8192)).seconds < 2 * base  # one tail
    assert planned(replace(ENGINES, engines=16)).seconds < base
    fast = plan_rollout(SHAPE, replace(GPU, rollout_share=0.9), ENGINES, DRAWING, 2048)
    assert fast.seconds < base
    assert planned(drawing=replace(DRAWING, responses=64)).tail_share == 1.0  # all fit at once: no prompt waits


def test_answers_have_the_mean_that_is_expected() -> None:
    for mean, longest in ((100, 8192), (1000, 8192), (3000, 4096)):
        rate = _rate(mean, longest)
        assert (1 - math.exp(-rate * longest)) / rate == pytest.approx(mean, rel=1e-6)


def test_a_few_sequences_read_a_part_of_the_experts() -> None:
    one, many = (planned(drawing=replace(DRAWING, responses=count), name="qwen3-30b-a3b") for count in (8, 8 * 200))
    assert one.seconds < many.seconds < 200 * one.seconds
    sparse = planned(drawing=replace(DRAWING, responses=8), name="qwen3-30b-a3b").seconds
    dense = planned(replace(ENGINES, memory_bytes=GPU.memory_bytes), replace(DRAWING, responses=8), "qwen3-32b").seconds
    assert sparse < dense / 3


def test_new_weights_pass_once_and_an_engine_that_slept_fetches_its_own() -> None:
    awake = sync_seconds(SHAPE, GPU, ENGINES, asleep=False)
    assert awake == 2 * SHAPE.num_parameters() / 50e9
    assert sync_seconds(SHAPE, GPU, ENGINES, asleep=True) == pytest.approx(2 * awake)


def test_a_published_step_never_calibrates_its_own_expectation() -> None:
    halved = replace(RL_RECORDS[1], seconds=RL_RECORDS[1].seconds / 2)
    told = leave_one_out_steps([RL_RECORDS[0], halved])[1]
    plain = leave_one_out_steps(RL_RECORDS[:2])[1]
    assert told.expected == plain.expected and told.ratio == pytest.approx(2 * plain.ratio)
    assert fit_share([halved]) > fit_share([RL_RECORDS[1]])


def test_the_profile_holds_what_the_published_steps_say_and_misses_them_as_published() -> None:
    assert get_accelerator("h100").rollout_share == pytest.approx(fit_share(RL_RECORDS), abs=1e-3)
    assert all(0.65 < error.ratio < 1.5 for error in leave_one_out_steps())
    parts = expect_step(RL_RECORDS[1], 0.5)
    assert parts.seconds == parts.drawing + parts.passes + parts.training + parts.weights
    assert parts.passes == pytest.approx(2 / 3 * parts.training, rel=0.02)
