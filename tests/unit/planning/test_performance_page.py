"""The tables of docs/performance.md are what the planner says today."""

from __future__ import annotations

from pathlib import Path

import pytest

from megatron_redone.config.loading import apply_overrides, validate
from megatron_redone.models.presets import get_preset
from megatron_redone.parallel.config import ParallelConfig
from megatron_redone.planning.hardware import get_accelerator
from megatron_redone.planning.memory import Workload
from megatron_redone.planning.search import Planned, plan_layout

PAGE = (Path(__file__).resolve().parents[3] / "docs/performance.md").read_text(encoding="utf-8")
SETTINGS = {"precision": "bf16", "distributed_optimizer": True, "overlap": True}
TABLES = {
    "| layout | memory | fits 139 GiB |": ("qwen3-8b", 16, Workload(16_384, 64, 600, 0.5)),
    "| layout | memory | tokens/s/GPU | MFU | bubble |": ("qwen3-32b", 64, Workload(4096, 1024)),
    "| layout | memory | tokens/s/GPU | MFU | traffic | host |": (
        "qwen3-30b-a3b", 64, Workload(4096, 1024, expert_imbalance=1.7),
    ),
}  # fmt: skip


def planned(model: str, gpus: int, work: Workload, layout: str) -> Planned:
    parallel = validate(ParallelConfig, apply_overrides(dict(SETTINGS), layout.split(",")), "page")
    return plan_layout(get_preset(model), parallel, gpus, work, get_accelerator("h200"))


@pytest.mark.parametrize("header", TABLES)
def test_a_table_of_layouts(header: str) -> None:
    lines = PAGE[PAGE.index(header) :].splitlines()
    names = [cell.strip() for cell in lines[0].strip("|").split("|")]
    rows = lines[2 : lines.index("")]
    assert len(rows) >= 5
    for row in rows:
        cells = dict(zip(names, (cell.strip() for cell in row.strip("|").split("|")), strict=True))
        found = planned(*TABLES[header], cells["layout"].strip("`"))
        time = found.time
        expected = {
            "layout": cells["layout"],
            "memory": f"{found.fullest.total / 2**30:.0f} GiB",
            "fits 139 GiB": "yes" if found.fits else "no",
            "tokens/s/GPU": f"{time.tokens_per_second_per_rank:,.0f}",
            "MFU": f"{time.mfu:.1%}",
            "bubble": f"{time.bubble / time.seconds:.0%}",
            "traffic": f"{time.communication / time.seconds:.0%}",
            "host": f"{time.host / time.seconds:.0%}",
        }
        assert cells == {name: expected[name] for name in names}


def test_the_table_of_row_lengths() -> None:
    lines = PAGE[PAGE.index("| tokens of a row |") :].splitlines()[2:7]
    for line in lines:
        tokens, *cells = (cell.strip() for cell in line.strip("|").split("|"))
        work = Workload(int(tokens.replace(",", "")), 64, 600, 0.5)
        expected = []
        for layout in ("tp=1,recompute=full", "tp=4,sequence_parallel=true"):
            time = planned("qwen3-8b", 8, work, layout).time
            expected += [f"{time.mfu:.1%}", f"{time.host / time.seconds:.0%}"]
        assert cells == expected
