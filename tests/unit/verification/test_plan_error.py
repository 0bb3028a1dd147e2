"""The planner's memory against a trace of the real code under fake tensors."""

from __future__ import annotations

import pytest

from megatron_redone.models.presets import get_preset
from megatron_redone.verification.memory_trace import schedule_to_peak
from megatron_redone.verification.plan_error import LIMIT, PlanCase, cases, measure_errors


def test_the_order_of_chunks_before_the_first_backward_pass() -> None:
    assert schedule_to_peak(4, 1, 0, 8) == [0, 0, 0, 0]
    assert schedule_to_peak(4, 1, 3, 8) == [0]
    assert schedule_to_peak(2, 2, 0, 4) == [0, 0, 1, 1, 0]


def test_all_cases_can_run() -> None:
    for case in cases():
        shape, parallel = get_preset(case.preset), case.parallel()
        assert not [*parallel.problems(case.world_size), *shape.layout_problems(parallel)], case


def test_a_trace_agrees() -> None:
    case = PlanCase("qwen3-0.6b", "tp=2,pp=4,distributed_optimizer=true", 16, 2048, 1)
    (found,) = measure_errors([case])
    assert found.expected_static == pytest.approx(found.traced_static, rel=0.01)
    assert abs(found.error) < LIMIT


@pytest.mark.slow
def test_all_cases_agree() -> None:
    wrong = [(one.case, one.error) for one in measure_errors(cases()) if abs(one.error) > LIMIT]
    assert not wrong
