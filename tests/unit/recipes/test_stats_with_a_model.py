"""A model as labeller: the stage loads it, asks it about a share of the rows, and counts what it answers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from megatron_redone.data.tokenizer import load_tokenizer
from megatron_redone.models.presets import get_preset
from megatron_redone.models.weights import RandomWeights
from megatron_redone.parallel.context import ParallelContext
from megatron_redone.recipes.data_stages import DataStatsStage
from megatron_redone.recipes.execution import Execution
from megatron_redone.recipes.executors import stats
from megatron_redone.recipes.graph import StageRun
from megatron_redone.tasks.reading import write_rows
from megatron_redone.training.engine import MegatronEngine
from megatron_redone.training.model_folder import save_model_folder
from tests.scripted_generation import sum_row, sums_template


def test_a_model_without_training_labels_nothing_and_that_is_counted(
    tmp_path: Path, parallel_context: ParallelContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tokenizer").mkdir()
    sums_template(tmp_path / "tokenizer")
    tokenizer = load_tokenizer(tmp_path / "tokenizer")
    shape = get_preset("qwen3-tiny").model_copy(update={"vocab_size": tokenizer.vocab_size})
    engine = MegatronEngine(shape, parallel_context)
    engine.load_hf_weights(RandomWeights(shape, 0), "random")
    save_model_folder(engine, tokenizer, tmp_path / "model")
    write_rows(tmp_path / "rows.jsonl", [sum_row(number) for number in range(12)])

    def told(**settings: object) -> dict[str, object]:
        generation = {"temperature": 0.0, "max_new_tokens": 4, "max_prompt_tokens": 60, "over_long": "truncate"}
        config = {"kind": "stats", "data": ["./rows.jsonl"], "labeller": "model", "model": "./model"}
        stage = DataStatsStage.model_validate({**config, "generation": generation, **settings})
        work = tmp_path / "work"
        work.mkdir(exist_ok=True)
        run = StageRun("stats", stage, None, 0, {"data.0": "./rows.jsonl", "model": "./model"})
        paths = {"data.0": tmp_path / "rows.jsonl", "model": tmp_path / "model"}
        stats.run_stats(Execution(run, work, parallel_context, paths.__getitem__, 0.0, {}))
        found: dict[str, object] = json.loads((work / "stats.json").read_text())
        return found

    found = told()
    assert (found["labeller"], found["rows"], found["labelled"]) == ("model", 12, 12)
    assert found["unreadable_labels"] == 12 and found["areas"] == {}
    assert told(label_share=0.5, label_batch=2) == told(label_share=0.5, label_batch=5)

    monkeypatch.setattr(type(tokenizer), "decode", lambda self, ids: "Mathematics / algebra")
    assert told()["topics"] == {"mathematics / algebra": 12}
