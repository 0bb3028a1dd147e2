"""Time, volumes, the search and the records."""

from __future__ import annotations

from dataclasses import replace

import pytest

from megatron_redone.common.errors import InputError
from megatron_redone.models.flops import training_flops
from megatron_redone.models.presets import get_preset
from megatron_redone.parallel.config import ParallelConfig
from megatron_redone.planning.hardware import get_accelerator
from megatron_redone.planning.memory import Workload
from megatron_redone.planning.pages import StagePlan, as_json, as_markdown
from megatron_redone.planning.records import RECORDS, calibrated_efficiency, leave_one_out
from megatron_redone.planning.search import plan_layout, search
from megatron_redone.planning.throughput import row_lengths, step_time, step_volumes

SHAPE, GPU, WORK = get_preset("qwen3-8b"), get_accelerator("h100"), Workload(4096, 64)


def layout(**settings: object) -> ParallelConfig:
    return ParallelConfig.model_validate({"precision": "bf16", "distributed_optimizer": True, **settings})


def test_one_rank_is_operations_over_peak_and_the_update() -> None:
    time = step_time(SHAPE, layout(), 1, WORK, GPU)
    flops = 64 * training_flops(SHAPE, [4096], 4096)
    assert time.flops == pytest.approx(flops)
    assert time.compute == pytest.approx(flops / (989e12 * GPU.efficiency))
    assert time.bubble == time.communication == 0.0
    assert time.mfu == pytest.approx(flops / time.seconds / 989e12)


def test_the_parts_of_a_step_add_up() -> None:
    time = step_time(SHAPE, layout(tp=2, pp=4, cp=2), 64, WORK, GPU)
    assert time.seconds == time.compute + time.bubble + time.communication + time.update
    assert time.bubble == pytest.approx(time.compute * 3 / 16)  # (pp - 1) / micro-batches
    halved = step_time(SHAPE, layout(tp=2, pp=4, cp=2, vpp=3), 64, WORK, GPU)
    assert halved.bubble == pytest.approx(time.bubble / 3)


def test_recomputation_costs_a_third_more_and_no_mfu_is_counted_for_it() -> None:
    plain, again = (step_time(SHAPE, layout(recompute=mode), 8, Workload(4096, 64, labelled=0.0), GPU)
                    for mode in ("none", "full"))  # fmt: skip
    assert again.compute == pytest.approx(plain.compute * 4 / 3)
    assert again.flops == plain.flops and again.mfu < plain.mfu


def test_volumes_of_axes_that_are_one_are_nothing() -> None:
    volumes = step_volumes(SHAPE, layout(), 1, WORK)
    assert (volumes.tensor, volumes.pipeline, volumes.context, volumes.data, volumes.expert) == (0, 0, 0, 0, 0)
    assert step_volumes(SHAPE, layout(), 8, WORK).data == pytest.approx(6 * SHAPE.num_parameters() * 7 / 8)
    expert = step_volumes(get_preset("qwen3-30b-a3b"), layout(ep=8), 8, Workload(4096, 8)).expert
    assert expert == pytest.approx(48 * 4 * 2 * 4096 * 2048 * 8 * 7 / 8)


def test_rows_are_filled_with_documents() -> None:
    assert row_lengths(Workload(1000, 1, 300)) == [300, 300, 300, 100]
    assert row_lengths(Workload(1000, 1)) == [1000]


def test_the_search_puts_what_fits_first_and_fast_before_slow() -> None:
    found = search(SHAPE, 16, WORK, replace(GPU, memory_bytes=40 * 2**30))
    fits = [planned.fits for planned in found]
    assert any(fits) and not all(fits) and fits == sorted(fits, reverse=True)
    seconds = [planned.time.seconds for planned in found if planned.fits]
    assert seconds == sorted(seconds)
    assert "more than a rank has" in found[-1].reasons()[0]


def test_a_page_and_json_of_a_plan() -> None:
    chosen = plan_layout(SHAPE, layout(tp=2), 8, WORK, GPU)
    plan = StagePlan("target", "qwen3-8b", SHAPE, 8, WORK, chosen, steps=3600)
    assert plan.hours == pytest.approx(chosen.time.seconds)
    page = as_markdown([plan], GPU, "Plan", "redone plan")
    assert "| target | qwen3-8b | 8 |" in page and "| fits |" in page
    stage = as_json([plan], GPU)["stages"][0]
    assert stage["dollars"] == pytest.approx(plan.hours * 8 * 2.5)
    assert stage["memory_by_stage"][0]["total"] == chosen.fullest.total


def test_a_record_never_calibrates_its_own_expectation() -> None:
    told = [replace(record, mfu=record.mfu / 2) if place == 0 else record for place, record in enumerate(RECORDS)]
    ours, changed = leave_one_out(RECORDS)[0], leave_one_out(told)[0]
    assert changed.expected.mfu == ours.expected.mfu and changed.ratio == pytest.approx(2 * ours.ratio)
    assert calibrated_efficiency(told) != calibrated_efficiency(RECORDS)


def test_the_profiles_efficiency_is_that_of_the_dense_record_most_like_ours() -> None:
    assert get_accelerator("h100").efficiency == pytest.approx(calibrated_efficiency(RECORDS[:1]), abs=0.005)


def test_an_unknown_profile_names_the_nearest() -> None:
    with pytest.raises(InputError, match=r"did you mean 'h200'"):
        get_accelerator("h220")
