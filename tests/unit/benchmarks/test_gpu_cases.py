"""The benchmark of one GPU goes on where it was, tells what failed, and fits its models into the device."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from megatron_redone.benchmarks.gpu_cases import PROFILES, TINY, WORKLOADS, Case, cases_of, measure, table
from megatron_redone.config.loading import apply_overrides, validate
from megatron_redone.models.presets import get_preset
from megatron_redone.parallel.config import ParallelConfig
from megatron_redone.planning import memory
from megatron_redone.planning.hardware import get_accelerator

RESULT = {
    "model_flops_per_second": 494.5e12,
    "useful_tokens_per_second": 20_000.0,
    "share_of_matmul_peak": 0.7,
    "ranks": [{"peak_mib": 102_400}],
    "step_seconds": [0.9, 1.1],
    "seconds_per_step": 1.0,
    "losses": [12.0, 11.5],
}


def layout_of(case: Case) -> ParallelConfig:
    words = case.words(1, Path("x.json"))
    layout = words[words.index("--layout") + 1]
    settings = apply_overrides({}, ["precision=bf16", *(word for word in layout.split(",") if word)])
    return validate(ParallelConfig, settings, case.profile)


@pytest.mark.parametrize("case", cases_of(WORKLOADS, list(PROFILES)), ids=lambda case: case.file)
def test_every_case_is_a_layout_that_fits(case: Case) -> None:
    work, parallel = case.work, layout_of(case)
    shape = get_preset(work.preset).model_copy(update={"num_layers": work.layers})
    assert parallel.problems(1) + shape.layout_problems(parallel) == []
    expected = memory.rank_memory(
        shape, parallel, 1, memory.Workload(work.sequence_length, work.rows, 345 if work.lengths == "redone" else None)
    )
    assert expected.total < get_accelerator("h200").memory_bytes, f"{expected.total / 2**30:.0f} GiB"


def program(text: str) -> list[str]:
    return [sys.executable, "-c", text]


def writing(words: Sequence[str]) -> list[str]:
    path = words[list(words).index("--out") + 1]
    return program(f"open({path!r}, 'w').write({json.dumps(RESULT)!r})")


def test_a_second_call_goes_on(tmp_path: Path) -> None:
    cases, told = cases_of(TINY, ["bf16"]), list[str]()
    assert measure(cases[:1], tmp_path, writing, steps=1, minutes=1, progress=told.append) == 0
    assert measure(cases, tmp_path, writing, steps=1, minutes=0, progress=told.append) == 2
    assert len(told) == 1
    assert measure(cases, tmp_path, writing, steps=1, minutes=1, progress=told.append) == 0
    assert len(told) == 3
    text = table(cases, tmp_path, "h200")
    assert (
        "| tiny dense | 2 of 4 layers | bf16 | 20,000 | 494 | 50.0% |  | 70.0% | 100.0 | 1.000 (0.900 to 1.100) |"
        in text
    )


def test_what_fails_and_what_is_missing_is_told(tmp_path: Path) -> None:
    cases = cases_of(TINY[:2], ["bf16"])
    failing = program("import sys; sys.exit('out of memory | here')")
    assert measure(cases[:1], tmp_path, lambda words: failing, steps=1, minutes=1, progress=lambda text: None) == 0
    lines = table(cases, tmp_path, "h200").splitlines()
    assert "failed (1): out of memory / here" in lines[2]
    assert "not measured" in lines[3]
    assert len({line.count("|") for line in lines}) == 1


def test_a_case_that_takes_too_long_is_left(tmp_path: Path) -> None:
    cases = cases_of(TINY[:1], ["bf16"])
    waiting = program("import threading; threading.Event().wait()")
    assert measure(cases, tmp_path, lambda words: waiting, steps=1, minutes=0.005, progress=lambda text: None) == 1
    assert not list(tmp_path.iterdir())
