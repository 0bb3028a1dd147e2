"""docs/measurements/planner.md says what the planner says today."""

from __future__ import annotations

from pathlib import Path

import pytest

from megatron_redone.models.presets import get_preset
from megatron_redone.planning.memory import Workload, rank_memory
from megatron_redone.planning.records_page import speed_markdown, steps_markdown
from megatron_redone.verification.plan_error import LIMIT, ZERO, PlanCase, cases

PAGE = (Path(__file__).resolve().parents[3] / "docs/measurements/planner.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("table", [speed_markdown, steps_markdown])
def test_times_against_records_are_those_of_the_command(table: object) -> None:
    assert callable(table) and table() in PAGE, "stale: run `redone verify-plan --speed`"


def test_memory_of_every_case_is_published_and_expected_as_today() -> None:
    lines = [line for line in PAGE.splitlines() if line.startswith(("| qwen", "| llama", "| smollm")) and "`" in line]
    published = {}
    for line in lines:
        name, layout, ranks, tokens, stage, *sizes = (cell.strip() for cell in line.strip("|").split("|"))
        case = PlanCase(name, f"{layout.strip('`')},{ZERO}", int(ranks), int(tokens.replace(",", "")), int(stage))
        published[case] = [float(size) for size in sizes[:4]]
        assert abs(published[case][2] / published[case][3] - 1) < LIMIT + 0.005
    assert set(published) == set(cases())
    for case, (static, _, peak, _) in published.items():
        parallel = case.parallel()
        work = Workload(case.sequence_length, 2 * parallel.pp * parallel.data_parallel_size(case.world_size))
        memory = rank_memory(get_preset(case.preset), parallel, case.world_size, work, case.pipeline_rank)
        expected = (static * 2**30, peak * 2**30)
        assert (memory.static, memory.tensors) == pytest.approx(expected, abs=0.006 * 2**30), case
