"""`redone lineage` on a finished recipe: the whole way of a row, and nothing claimed that did not happen."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from megatron_redone.cli.main import main
from megatron_redone.common.jsonl import read_jsonl
from megatron_redone.training.sample_log import PACKED_SAMPLES, read_sample_log

from .mini_recipe import process_restored

TRAINING = ["pretrain", "warmup", "explore.seed1", "target.seed1", "refine.seed1", "sft_only.seed1"]


def ask(capsys: pytest.CaptureFixture[str], run: Path, wanted: str) -> dict[str, Any]:
    capsys.readouterr()
    with process_restored():
        assert main(["lineage", wanted, "--runs", str(run), "--json"]) == 0
    value: dict[str, Any] = json.loads(capsys.readouterr().out)
    return value


def ids(path: Path) -> list[str]:
    return [value["id"] for _, value in read_jsonl(path)]


def learnt(run: Path, stage: str) -> set[str]:
    lines = read_sample_log(run / stage / PACKED_SAMPLES)
    return {one for line in lines for one in line.get("learnt", line["read"])}


def test_every_training_row_is_told_exactly_where_it_was_learnt(
    finished_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = ids(finished_run / "data" / "train.jsonl")
    for row in rows[:6]:
        found = ask(capsys, finished_run, row)
        claimed = {one["stage"] for one in found["training"] if one["verdict"] == "learnt"}
        assert claimed == {stage for stage in TRAINING if row in learnt(finished_run, stage)}
        assert found["standing"][0]["file"].endswith("data/train.jsonl")
        assert {one["stage"] for one in found["standing"]} >= {"data", "warmup_set", "explore_set"}
        assert [stage["stage"] for stage in found["stages"] if stage["kind"] == "synthesize"] == ["data"]


def test_a_held_out_row_was_answered_and_never_learnt(finished_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = ask(capsys, finished_run, ids(finished_run / "data" / "test.jsonl")[0])
    assert {one["verdict"] for one in found["training"]} == {"not read"}
    assert {one["stage"] for one in found["training"]} == set(TRAINING)
    assert {one["stage"] for one in found["answered"]} >= {"warmup", "refine.seed1", "judged.seed1"}


def test_documents_of_the_corpus_are_told_apart_by_what_pretraining_read(
    finished_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    documents = [value for _, value in read_jsonl(finished_run / "data" / "corpus.jsonl")]
    read = {int(one.split(":")[1]) for one in learnt(finished_run, "pretrain")}
    assert 0 < len(read) < len(documents)
    inside, outside = (next(n for n in range(len(documents)) if (n in read) is known) for known in (True, False))
    for number, verdict in ((inside, "learnt"), (outside, "not read")):
        found = {one["stage"]: one for one in ask(capsys, finished_run, documents[number]["id"])["training"]}
        assert found["pretrain"]["verdict"] == verdict
        assert all(found[stage]["verdict"] == "not read" for stage in TRAINING[1:])
    told = next(document for document in documents if document["form"] == "single_search")
    from_session = ask(capsys, finished_run, told["made_of"][0])
    assert told["id"] in {one["id"] for one in from_session["made_into"]}


def test_the_tree_and_unknown_ids(finished_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    row = ids(finished_run / "data" / "train.jsonl")[0]
    with process_restored():
        assert main(["lineage", row, "--runs", str(finished_run)]) == 0
        shown = capsys.readouterr().out
        assert main(["lineage", row[:-1] + "zz", "--runs", str(finished_run)]) == 2
    assert f"data/train.jsonl:1 (task {row.rpartition('-')[0]}" in shown and "trained on it" in shown
    assert row in capsys.readouterr().err
    with process_restored():
        assert main(["lineage", "warmup", "--runs", str(finished_run)]) == 0
    shown = capsys.readouterr().out
    assert "as it was published" in shown and "read by" in shown and "explore.seed1 (dapo, seed 1) as model" in shown
