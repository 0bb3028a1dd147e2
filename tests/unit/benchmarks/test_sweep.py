"""A sweep measures what is missing only, and holds each layout against what the others say."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from megatron_redone.benchmarks.sweep import file_of, measure, rows_of
from megatron_redone.common.errors import DataError, TrainingError
from megatron_redone.models.presets import get_preset


def measurement(seconds: float, **parallel: Any) -> dict[str, Any]:
    n = get_preset("qwen3-30m").num_parameters()
    return {
        "settings": {
            "preset": "qwen3-30m", "sequence_length": 512, "rows": 2, "document_length": None,
            "parallel": {"precision": "fp32", **parallel},
        },
        "world_size": 1, "seconds_per_step": seconds, "useful_tokens_per_second": 1024 / seconds,
        "model_flops_per_second": 1e10, "matmul_flops_per_second": 5e10, "share_of_matmul_peak": 0.2,
        "ranks": [{"weights_mib": 4 * n / 2**20, "gradients_mib": 4 * n / 2**20, "optimizer_mib": 8 * n / 2**20}],
    }  # fmt: skip


def writer(path: Path) -> list[str]:
    program = f"import pathlib; pathlib.Path({str(path)!r}).write_text({json.dumps(measurement(2.0))!r})"
    return [sys.executable, "-c", program]


def test_what_is_there_is_not_measured_again(tmp_path: Path) -> None:
    told: list[str] = []
    asked: list[tuple[str, int]] = []

    def command(layout: str, ranks: int, path: Path) -> list[str]:
        asked.append((layout, ranks))
        return writer(path)

    measure(["1"], tmp_path, command, told.append)
    found = measure(["1", "2:tp=2,pp=1"], tmp_path, command, told.append)
    assert asked == [("", 1), ("tp=2,pp=1", 2)] and "1: measured already" in told
    assert [one["layout"] for one in found] == ["1", "2:tp=2,pp=1"]


def test_a_failed_measurement_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    failing = [sys.executable, "-c", "print('out of luck'); raise SystemExit(3)"]
    with pytest.raises(TrainingError, match=r"(?s)1: ended with 3: .*out of luck"):
        measure(["1"], tmp_path, lambda *_: failing, lambda _: None)
    assert not list(tmp_path.iterdir())


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    file_of(tmp_path, "1").write_text("{", encoding="utf-8")
    with pytest.raises(DataError, match=r"1\.json: is no JSON"):
        measure(["1"], tmp_path, lambda *_: [], lambda _: None)


def test_an_expectation_never_looks_at_its_own_time() -> None:
    first = {**measurement(2.0), "layout": "a"}
    second = {**measurement(2.0), "layout": "b"}
    slower = {**measurement(4.0), "layout": "b"}
    even, uneven = rows_of([first, second]), rows_of([first, slower])
    assert even[0].expected_seconds == pytest.approx(2.0, rel=0.06)
    assert uneven[1].expected_seconds == even[1].expected_seconds and uneven[1].seconds == 4.0
    assert uneven[0].expected_seconds == pytest.approx(4.0, rel=0.06)
    assert rows_of([first])[0].expected_seconds is None
    assert even[0].static_mib == pytest.approx(even[0].expected_static_mib)
