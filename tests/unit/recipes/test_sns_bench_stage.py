"""The stages that make sets, on benchmark rows with and without general rows beside them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from megatron_redone.common.errors import DataError
from megatron_redone.common.jsonl import read_jsonl
from megatron_redone.launch.environment import from_environ
from megatron_redone.recipes.graph import load_recipe
from megatron_redone.recipes.runner import RecipeRunner

RECIPE = """
name: rows
output: {output}
max_refused_share: 0.2
stages:
  data: {{kind: sns_bench_rows, data: ./bench, tasks: [Note-QueryCorr-explain], general_rows: 5}}
  rl_rows: {{kind: rl_set, data: data, general_rows: 3}}
  sft_rows: {{kind: sft_set, data: data}}
  scores: {{kind: baselines, data: data}}
"""


def run(folder: Path, *overrides: str) -> Path:
    path, output = folder / "recipe.yaml", folder / "run"
    path.write_text(RECIPE.format(output=output), encoding="utf-8")
    RecipeRunner(load_recipe(path, overrides), "redone run", from_environ({"OMP_NUM_THREADS": "1"})).run()
    return output


def manifest(folder: Path) -> Any:
    return json.loads((folder / "manifest.json").read_text(encoding="utf-8"))


@pytest.fixture
def bench(tmp_path: Path) -> Path:
    items = [{"sentence1": f"query {n}", "sentence2": f"note {n}", "answer": "Yes"} for n in range(40)]
    items.append({"sentence1": "query", "sentence2": "note", "answer": "Perhaps"})
    (tmp_path / "bench").mkdir()
    (tmp_path / "bench" / "Note-QueryCorr-explain.json").write_text(json.dumps(items), encoding="utf-8")
    return tmp_path


def test_rows_and_general_rows_reach_the_sets(bench: Path) -> None:
    output = run(bench)
    data = manifest(output / "data")
    assert data["inputs"]["data"]["path"] == "./bench"
    assert len(data["refused_rows"]) == data["counts"]["Note-QueryCorr-explain/refused"] == 1
    num_train = data["counts"]["rows/train"]
    assert manifest(output / "rl_rows")["counts"]["rows"] == num_train + 3
    assert manifest(output / "sft_rows")["counts"]["conversations"] == num_train + 5


def test_data_without_general_rows(bench: Path) -> None:
    output = run(bench, "data.general_rows=0")
    assert not (output / "data" / "general.jsonl").exists()
    num_train = manifest(output / "data")["counts"]["rows/train"]
    assert sum(1 for _ in read_jsonl(output / "rl_rows" / "rows.jsonl")) == num_train
    assert manifest(output / "sft_rows")["counts"]["conversations"] == num_train


def test_changed_files_are_read_again(bench: Path) -> None:
    run(bench)
    file = bench / "bench" / "Note-QueryCorr-explain.json"
    file.write_text(file.read_text(encoding="utf-8").replace("query 7", "question 7"), encoding="utf-8")
    rows = (run(bench) / "data" / "train.jsonl").read_text(encoding="utf-8") + "".join(
        (bench / "run" / "data" / f"{split}.jsonl").read_text(encoding="utf-8") for split in ("diagnosis", "test")
    )
    assert "question 7" in rows


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data: data='\./bench' needs .*paths are relative to the recipe file"):
        run(tmp_path)
