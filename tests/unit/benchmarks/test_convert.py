from __future__ import annotations

import sys
from pathlib import Path

import torch
from safetensors.torch import load_file

from megatron_redone.benchmarks.convert import BOTH, PEER, make_model_folder, measure_conversions, table_rows
from megatron_redone.benchmarks.program import ProgramRun
from megatron_redone.models.presets import get_preset

COPY = "import shutil, sys; shutil.copytree(sys.argv[2], sys.argv[4])"


def test_conversions_and_a_peer_are_measured_beside_copies(tmp_path: Path) -> None:
    hub = tmp_path / "hub"
    total = make_model_folder(get_preset("qwen3-tiny"), hub, 2**18)
    shards = sorted(hub.glob("*.safetensors"))
    tensors = {name: tensor for path in shards for name, tensor in load_file(path).items()}
    assert len(shards) > 1 and sum(tensor.nbytes for tensor in tensors.values()) == total
    assert all(torch.isfinite(tensor.float()).all() for tensor in tensors.values())
    said: list[str] = []
    runs = measure_conversions(hub, tmp_path, 1, 1, said.append, [sys.executable, "-c", COPY], cold=False)
    assert len(said) == len(runs) == 5 and {run.name for run in runs} >= {"to-megatron", "to-hf", PEER}
    assert {path.name for path in tmp_path.iterdir()} == {"hub"}
    rows = {name: (seconds, ratio) for name, seconds, ratio, _, _ in table_rows(runs)}
    assert rows[BOTH][0] == rows["to-megatron"][0] + rows["to-hf"][0] and rows["copy of the checkpoint"][1] == 1


def test_ratios_are_medians_over_rounds() -> None:
    def round_of(copy: float, there: float, back: float, peer: float) -> list[ProgramRun]:
        names = ("copy of the model folder", "to-megatron", "copy of the checkpoint", "to-hf", PEER)
        return [
            ProgramRun(name, seconds, seconds, 2**20, True)
            for name, seconds in zip(names, (copy, there, copy, back, peer), strict=True)
        ]

    runs = [*round_of(1, 2, 3, 10), *round_of(2, 2, 2, 2), *round_of(1, 4, 4, 32)]
    rows = {name: (seconds, ratio) for name, seconds, ratio, _, _ in table_rows(runs)}
    assert rows["to-megatron"] == (2, 2) and rows["to-hf"] == (3, 3)
    assert rows[BOTH] == (5, 1) and rows[PEER] == (10, 2)
