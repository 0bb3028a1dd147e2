from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given, strategies as st

from megatron_redone.training.config import OptimizerConfig
from megatron_redone.training.schedule import learning_rate

SCHEDULES = ("constant", "linear", "cosine")


def rates(num_steps: int, **settings: object) -> list[float]:
    config = OptimizerConfig.model_validate({"lr": 2.0, **settings})
    return [learning_rate(config, step, num_steps) for step in range(num_steps)]


@given(st.sampled_from(SCHEDULES), st.integers(1, 60), st.none() | st.integers(0, 70), st.floats(0, 1), st.floats(0, 1))
def test_it_rises_to_the_peak_then_never_rises_again(
    schedule: str, num_steps: int, warmup_steps: int | None, warmup_ratio: float, floor: float
) -> None:
    warmup = round(warmup_ratio * num_steps) if warmup_steps is None else warmup_steps
    found = rates(
        num_steps, schedule=schedule, warmup_steps=warmup_steps, warmup_ratio=warmup_ratio, min_lr_ratio=floor
    )
    for step, rate in enumerate(found[:warmup]):
        assert rate == pytest.approx(2.0 * (step + 1) / warmup)
    after = found[warmup:]
    if after:
        assert after[0] == 2.0
        assert all(later <= earlier + 1e-12 for earlier, later in itertools.pairwise(after))
        assert all(2.0 * floor - 1e-12 <= rate <= 2.0 for rate in after)
    if schedule != "constant" and len(after) > 1:
        assert after[-1] == pytest.approx(2.0 * floor)


def test_the_shapes() -> None:
    assert rates(4, schedule="constant", warmup_steps=0) == [2.0] * 4
    assert rates(5, schedule="linear", warmup_steps=0, min_lr_ratio=0.5) == pytest.approx([2.0, 1.75, 1.5, 1.25, 1.0])
    middle = rates(5, schedule="cosine", warmup_steps=0)
    assert middle == pytest.approx([1 + math.cos(math.pi * step / 4) for step in range(5)])


def test_a_step_beyond_the_last_stays_at_the_floor() -> None:
    config = OptimizerConfig(lr=1.0, schedule="cosine", warmup_steps=0, min_lr_ratio=0.1)
    assert learning_rate(config, 50, 10) == pytest.approx(0.1)
