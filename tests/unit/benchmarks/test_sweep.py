"""A sweep measures what is missing only, and holds each layout against what the others say."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from megatron_redone.benchmarks.sweep import Sweep, file_of, measure, rows_of
from megatron_redone.benchmarks.sweep_page import sweep_json, sweep_markdown
from megatron_redone.common.errors import DataError
from megatron_redone.models.presets import get_preset
from megatron_redone.planning.hardware import get_accelerator

SHAPE = get_preset("qwen3-30m")


def measurement(seconds: float, **parallel: Any) -> dict[str, Any]:
    n = SHAPE.num_parameters()
    return {
        "settings": {
            "preset": "qwen3-30m", "sequence_length": 512, "rows": 2, "steps": 1, "document_length": None,
            "parallel": {"precision": "fp32", **parallel},
        },
        "shape": SHAPE.model_dump(mode="json"), "device": "cpu", "threads": 1, "machine": {"cores": 2},
        "versions": {"torch": "2"}, "parts": {"forward": 0.4, "backward": 0.6, "communication": 0.1},
        "world_size": 1, "seconds_per_step": seconds, "step_seconds": [seconds, 1.5 * seconds],
        "useful_tokens_per_second": 900 / seconds, "total_tokens_per_second": 1024 / seconds,
        "real_tokens": [900], "total_tokens": [1024], "labelled_tokens": [1024], "documents": [2],
        "model_flops_per_second": 1e10, "matmul_flops_per_second": 5e10, "share_of_matmul_peak": 0.2,
        "ranks": [{
            "weights_mib": 4 * n / 2**20, "gradients_mib": 4 * n / 2**20, "optimizer_mib": 8 * n / 2**20,
            "peak_mib": 700.0,
        }],
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
    found = measure(["1", "2:tp=2,pp=1"], tmp_path, command, told.append).measured
    assert asked == [("", 1), ("tp=2,pp=1", 2)] and "1: measured already" in told
    assert [one["layout"] for one in found] == ["1", "2:tp=2,pp=1"]


def test_a_failed_measurement_is_told_leaves_nothing_and_the_others_are_measured(tmp_path: Path) -> None:
    failing = [sys.executable, "-c", "print('out of luck'); raise SystemExit(3)"]
    commands = {"tp=9": failing}
    found = measure(["2:tp=9", "1"], tmp_path, lambda layout, _, path: commands.get(layout) or writer(path), print)
    assert [one["layout"] for one in found.measured] == ["1"]
    assert found.failed["2:tp=9"].startswith("ended with 3: ") and "out of luck" in found.failed["2:tp=9"]
    assert [path.name for path in tmp_path.iterdir()] == ["1.json"]
    page = sweep_markdown(found, rows_of(found.measured), None, "redone benchmark sweep")
    assert "`2:tp=9` was not measured: it ended with 3: out of luck" in page


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"settings": {}, "shape": {}}', "null"])
def test_a_broken_file_is_named(tmp_path: Path, text: str) -> None:
    file_of(tmp_path, "1").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=r"1\.json: is no measurement .*delete it"):
        measure(["1"], tmp_path, lambda *_: [], lambda _: None)


def test_a_file_of_another_sweep_is_refused(tmp_path: Path) -> None:
    file_of(tmp_path, "1").write_text(json.dumps(measurement(2.0)), encoding="utf-8")
    same = {"preset": "qwen3-30m", "sequence_length": 512}
    assert measure(["1"], tmp_path, lambda *_: [], lambda _: None, same).measured
    with pytest.raises(DataError, match=r"was measured with sequence_length=512, and this sweep has 1024"):
        measure(["1"], tmp_path, lambda *_: [], lambda _: None, same | {"sequence_length": 1024})


def test_the_page_tells_rates_memory_parts_and_what_was_expected() -> None:
    found = Sweep([{**measurement(2.0), "layout": "1"}, {**measurement(4.0), "layout": "1:recompute=full"}], {})
    rows = rows_of(found.measured)
    assert (rows[0].useful_tokens_per_second, rows[0].total_tokens_per_second) == (450, 512)
    page = sweep_markdown(found, rows, None, "redone benchmark sweep --layout 1")
    assert "| `1` | 450 | 512 | 0.010 | 20.0% | 2.000 s (2.000 to 3.000) |" in page and "| 700 MiB |" in page
    assert "| `1` | 0.0% | 40.0% | 0.0% | 60.0% |" in page
    h100 = rows_of(found.measured, get_accelerator("h100"))
    assert h100[0].mfu == pytest.approx(1e10 / 67e12)
    written = sweep_json(found, rows, "c")
    assert [one["layout"] for one in written["layouts"]] == ["1", "1:recompute=full"]


def test_on_a_device_the_tensors_of_the_peak_are_expected() -> None:
    on_gpu = {**measurement(2.0), "layout": "1", "device": "NVIDIA H200"}
    (row,) = rows_of([on_gpu], get_accelerator("h200"))
    assert row.expected_peak_mib is not None and row.expected_peak_mib > row.expected_static_mib


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
