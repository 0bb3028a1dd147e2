"""The planner's memory against a trace of the real code under fake tensors."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from megatron_redone.common.errors import ConfigError, DataError
from megatron_redone.models.presets import PRESETS, get_preset
from megatron_redone.verification.memory_trace import schedule_to_peak, trace_memory
from megatron_redone.verification.plan_error import LIMIT, PlanCase, PlanError, as_markdown, cases, measure_errors


def test_the_order_of_chunks_before_the_first_backward_pass() -> None:
    assert schedule_to_peak(4, 1, 0, 8) == [0, 0, 0, 0]
    assert schedule_to_peak(4, 1, 3, 8) == [0]
    assert schedule_to_peak(2, 2, 0, 4) == [0, 0, 1, 1, 0]


def test_all_cases_can_run() -> None:
    for case in cases():
        shape, parallel = get_preset(case.preset), case.parallel()
        assert not [*parallel.problems(case.world_size), *shape.layout_problems(parallel)], case


CASE = PlanCase("qwen3-0.6b", "tp=2,pp=4,distributed_optimizer=true", 16, 2048, 1)


def test_every_shape_of_the_papers_and_every_axis_has_a_case() -> None:
    found = cases()
    assert len({case.name() for case in found}) == len(found)
    assert {case.world_size for case in found} >= {8, 16, 32, 64, 128, 256, 512}
    tiny = {"qwen3-30m", "qwen3-quickstart"}
    assert {name for name, shape in PRESETS.items() if shape.num_parameters() > 1e8} - tiny <= {c.preset for c in found}
    layouts = [case.parallel() for case in found]
    for axis in ("tp", "pp", "vpp", "cp", "ep", "etp"):
        assert any(getattr(layout, axis) > 1 for layout in layouts), axis


def test_a_trace_agrees_and_is_kept(tmp_path: Path) -> None:
    (found,) = measure_errors([CASE], tmp_path)
    (path,) = tmp_path.iterdir()
    kept = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**kept, "traced": 2 * kept["traced"]}), encoding="utf-8")
    (again,) = measure_errors([CASE], tmp_path)  # not traced anew
    assert again.traced == 2 * found.traced and again.expected == found.expected
    assert found.expected_static == pytest.approx(found.traced_static, rel=0.01)
    assert abs(found.error) < LIMIT


@pytest.mark.parametrize("text", ["{", "[]", '{"traced": 1}', '{"traced": null, "traced_static": 2}'])
def test_a_broken_file_of_an_earlier_run_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / f"{CASE.name()}.json").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=r"is no trace of a case .*delete it"):
        list(measure_errors([CASE], tmp_path))


def test_the_table_tells_every_case_and_the_largest_error() -> None:
    table = as_markdown([PlanError(CASE, 2**30, 2**30, 103, 100), PlanError(CASE, 2**30, 2**30, 99, 100)])
    assert table.count("| qwen3-0.6b | `tp=2,pp=4` | 16 | 2,048 | 1 | 1.00 | 1.00 |") == 2
    assert "2 cases: half of them within 3.0%, the largest error 3.0%." in table


def test_what_cannot_be_traced_is_refused() -> None:
    layout = PlanCase("qwen3-moe-tiny", "ep=2,moe_dispatcher=allgather", 2, 64).parallel()
    with pytest.raises(ConfigError, match=r"moe_dispatcher=allgather: only alltoall can be traced"):
        trace_memory(get_preset("qwen3-moe-tiny"), layout, 2, 64)


@pytest.mark.slow
def test_all_cases_agree() -> None:
    wrong = [(one.case, one.error) for one in measure_errors(cases()) if abs(one.error) > LIMIT]
    assert not wrong
