"""Time, volumes, the search and the records."""

from __future__ import annotations

from dataclasses import replace

import pytest

from megatron_redone.common.errors import InputError
from megatron_redone.models.flops import training_flops
from megatron_redone.models.presets import get_preset
from megatron_redone.parallel.config import ParallelConfig
from megatron_redone.planning.fit import ATTENTION, Fitted, fit
from megatron_redone.planning.hardware import Kernels, get_accelerator
from megatron_redone.planning.memory import Workload
from megatron_redone.planning.pages import StagePlan, as_json, as_markdown
from megatron_redone.planning.records import RECORDS, RecordError, fit_records, leave_one_out
from megatron_redone.planning.search import plan_layout, search
from megatron_redone.planning.throughput import OPERATIONS, Practice, row_lengths, step_time, step_volumes
from megatron_redone.recipes.cluster import ExpectConfig

SHAPE, GPU, WORK = get_preset("qwen3-8b"), get_accelerator("h100"), Workload(4096, 64)


def layout(**settings: object) -> ParallelConfig:
    return ParallelConfig.model_validate({"precision": "bf16", "distributed_optimizer": True, **settings})


def test_one_rank_is_operations_over_what_kernels_reach_streams_and_the_update() -> None:
    bare = replace(GPU, kernels=Kernels(0.5, 0.5, 0.5, 0.0), memory_bandwidth=1e30)
    time = step_time(SHAPE, layout(), 1, WORK, bare)
    flops = 64 * training_flops(SHAPE, [4096], 4096)
    assert time.flops == pytest.approx(flops)
    # attention's pairs are counted as the operations are; nothing else is left
    assert time.seconds == pytest.approx(flops / (989e12 * 0.5), rel=1e-6)
    assert time.mfu == pytest.approx(0.5, rel=1e-6)
    assert step_time(SHAPE, layout(), 1, WORK, replace(bare, memory_bandwidth=3.35e12)).seconds > time.seconds


def test_the_parts_of_a_step_add_up() -> None:
    time = step_time(SHAPE, layout(tp=2, pp=4, cp=2), 64, WORK, GPU)
    assert time.seconds == time.compute + time.bubble + time.communication + time.host + time.update
    assert time.bubble == pytest.approx(time.compute * 3 / 16)  # (pp - 1) / micro-batches
    halved = step_time(SHAPE, layout(tp=2, pp=4, cp=2, vpp=3), 64, WORK, GPU)
    assert halved.bubble == pytest.approx(time.bubble / 3)


def test_recomputation_costs_a_third_more_and_no_mfu_is_counted_for_it() -> None:
    plain, again = (step_time(SHAPE, layout(recompute=mode), 8, Workload(4096, 64, labelled=0.0), GPU)
                    for mode in ("none", "full"))  # fmt: skip
    assert again.compute == pytest.approx(plain.compute * 4 / 3)
    assert again.flops == plain.flops and again.mfu < plain.mfu


def test_a_short_row_waits_for_the_host() -> None:
    short = step_time(SHAPE, layout(tp=8), 8, Workload(512, 8), GPU)
    whole = 8 * 36 * OPERATIONS["dense"] * GPU.kernels.operation_seconds
    assert short.host > 0
    reduction = short.seconds - short.update - whole
    assert 0 <= reduction < 0.01 * whole
    assert step_time(SHAPE, layout(), 8, Workload(16_384, 8), GPU).host == 0
    assert step_time(SHAPE, layout(tp=8), 8, Workload(512, 8), GPU, Practice(captured=True)).host == 0


def test_experts_cross_the_network_once_for_each_token_where_software_does_so() -> None:
    shape, work = get_preset("qwen3-30b-a3b"), Workload(4096, 16)
    plain, once = (step_time(shape, layout(ep=16), 16, work, GPU, practice)
                   for practice in (Practice(captured=True), Practice(captured=True, once_per_node=True)))  # fmt: skip
    saved = plain.volumes.expert * (1 / 2 - (1 - 0.5**8) / 8) / (50e9 * 0.8)  # eight choices, two nodes
    assert plain.communication - once.communication == pytest.approx(saved)
    inside = [step_time(shape, layout(ep=8), 16, work, GPU, Practice(once_per_node=flag)) for flag in (True, False)]
    assert inside[0].seconds == inside[1].seconds


def test_imbalance_slows_experts_only() -> None:
    even, uneven = Workload(16_384, 8), Workload(16_384, 8, expert_imbalance=2.0)
    moe = get_preset("qwen3-30b-a3b")
    assert (
        step_time(moe, layout(ep=8), 8, uneven, GPU).seconds > 1.2 * step_time(moe, layout(ep=8), 8, even, GPU).seconds
    )
    assert step_time(SHAPE, layout(), 8, uneven, GPU).seconds == step_time(SHAPE, layout(), 8, even, GPU).seconds


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
    assert plan.hours is not None and plan.hours == pytest.approx(chosen.time.seconds)
    page = as_markdown([plan], GPU, "Plan", "redone plan")
    assert "| target | qwen3-8b | 8 |" in page and "| fits |" in page
    stage = as_json([plan], GPU)["stages"][0]
    assert stage["dollars"] == pytest.approx(plan.hours * 8 * 2.5)
    assert stage["memory_by_stage"][0]["total"] == chosen.fullest.total


@pytest.fixture(scope="module")
def errors() -> list[RecordError]:
    return leave_one_out()


def test_a_record_never_calibrates_its_own_expectation(errors: list[RecordError]) -> None:
    halved = replace(RECORDS[0], tokens_per_second=RECORDS[0].tokens_per_second / 2)
    (told, *_) = leave_one_out([halved, *RECORDS[1:4]])
    (plain, *_) = leave_one_out(RECORDS[:4])
    assert told.expected == plain.expected and told.ratio == pytest.approx(2 * plain.ratio)
    assert fit_records([halved, *RECORDS[1:4]]) != fit_records(RECORDS[:4])


def test_records_with_a_known_layout_come_out_within_a_tenth_of_each_other(errors: list[RecordError]) -> None:
    """What docs/measurements/planner.md publishes; the three that do not calibrate for a reason are told there, too."""
    assert all(abs(one.ratio - 1) < 0.105 for one in errors if one.record.calibrates)
    assert [one.record.name for one in errors if one.ratio > 2] == [
        "Qwen3-8B packed SFT at 32K", "Qwen3-30B-A3B packed SFT at 32K, natural routing",
    ]  # fmt: skip


def test_the_profile_holds_what_all_records_together_say() -> None:
    fitted, kernels = fit_records(RECORDS), get_accelerator("h100").kernels
    assert kernels.dense == pytest.approx(fitted.dense, abs=5e-4)
    assert kernels.experts == pytest.approx(fitted.experts, abs=5e-4)
    assert kernels.operation_seconds == pytest.approx(fitted.operation_seconds, rel=0.01)
    assert kernels.attention == ATTENTION
    assert ExpectConfig().expert_imbalance == pytest.approx(fitted.imbalance, abs=0.05)


def test_a_fit_finds_planted_figures_and_keeps_what_nothing_tells() -> None:
    planted = Fitted(dense=0.5, experts=0.3)
    found = fit(lambda figures, place: [figures.dense / planted.dense, figures.experts / planted.experts][place], 2)
    assert found.dense == pytest.approx(0.5, rel=0.15) and found.experts == pytest.approx(0.3, rel=0.05)
    assert (found.operation_seconds, found.imbalance) == (Fitted().operation_seconds, Fitted().imbalance)


def test_an_unknown_profile_names_the_nearest() -> None:
    with pytest.raises(InputError, match=r"did you mean 'h200'"):
        get_accelerator("h220")
