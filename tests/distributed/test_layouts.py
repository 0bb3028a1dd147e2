"""Layouts do not change what is trained and what is sampled from it: two ranks equal one process."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from megatron_redone.parallel.context import ParallelContext
from tests.distributed.layout_cases import run_cases, shape_of, trajectory
from tests.distributed.ranks import run_on_ranks

CASES: list[tuple[str, dict[str, Any]]] = [
    ("qwen3-tiny", {"tp": 2}),
    ("qwen3-tiny", {"tp": 2, "sequence_parallel": True}),
    ("qwen3-tiny", {"pp": 2}),
    ("qwen3-tiny", {}),
    ("qwen3-tiny+odd", {"tp": 2}),
    ("qwen2.5-tiny", {"tp": 2}),
    ("qwen2.5-tiny", {"pp": 2}),
    ("llama-tiny", {"pp": 2}),
    ("llama-tiny", {"tp": 2}),
    ("qwen3-moe-tiny", {"tp": 2, "ep": 2}),
    ("qwen3-moe-tiny", {"tp": 2, "etp": 2}),
    ("qwen3-moe-tiny", {"pp": 2}),
    ("qwen3-moe-tiny", {"ep": 2}),
    ("qwen3-tiny", {"cp": 2}),
    ("qwen3-tiny", {"pp": 2, "vpp": 2}),
    ("qwen2.5-tiny", {"distributed_optimizer": True, "overlap": True}),
    ("qwen3-moe-tiny", {"cp": 2, "ep": 2}),
    ("qwen3-moe-tiny", {"ep": 2, "moe_dispatcher": "allgather"}),
]


def case_name(case: tuple[str, dict[str, Any]]) -> str:
    return case[0] + "-" + ("-".join(f"{key}{value}" for key, value in case[1].items()) or "dp2")


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("layouts")
    run_on_ranks(run_cases, 2, folder, CASES, str(folder / "results.pt"))
    loaded: list[dict[str, Any]] = torch.load(folder / "results.pt", weights_only=True)
    return loaded


@pytest.fixture(scope="module")
def references(parallel_context: ParallelContext) -> dict[str, dict[str, Any]]:
    return {name: trajectory(parallel_context, shape_of(name), 200) for name in {case[0] for case in CASES}}


@pytest.mark.distributed
@pytest.mark.parametrize("index", range(len(CASES)), ids=[case_name(case) for case in CASES])
def test_layout_equals_one_process(
    index: int, results: list[dict[str, Any]], references: dict[str, dict[str, Any]]
) -> None:
    result, reference = results[index], references[CASES[index][0]]
    for name in ("loss", "grad_norm", "clip_share", "entropy"):
        assert result[name] == pytest.approx(reference[name], rel=3e-6), name
    for name, weight in reference["weights"].items():
        torch.testing.assert_close(result["weights"][name], weight, rtol=0.0, atol=5e-6, msg=name)
    assert result["tokens"] == reference["tokens"]
    assert result["alone"] == reference["alone"] == reference["tokens"][0]
    assert result["greedy"] == reference["greedy"] == [True, False, False, False]
    for ours, theirs in zip(result["scores"], reference["scores"], strict=True):
        assert ours == pytest.approx(theirs, abs=1e-5)
    for ours, theirs in zip(result["logprobs"], reference["logprobs"], strict=True):
        for one, other in zip(ours, theirs, strict=True):
            assert one == pytest.approx(other, abs=1e-5)
