"""Held-out rows never enter a training file: by id and by n-grams, over every stage of a run that makes a set."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from megatron_redone.cli.curate import curate
from megatron_redone.common.jsonl import read_jsonl, write_jsonl
from megatron_redone.curation.config import HeldOutConfig
from megatron_redone.curation.held_out import HeldOut
from megatron_redone.data.ngrams import units
from megatron_redone.tasks.row import Row
from tests.integration.mini_recipe import process_restored

HELD_OUT = ("validation.jsonl", "diagnosis.jsonl", "test.jsonl")
SETS = (
    "warmup_set/conversations.jsonl", "explore_set/rows.jsonl", "target_set.seed1/conversations.jsonl",
    "refinement_set.seed1/rows.jsonl",
)  # fmt: skip
NUM_PLANTED = 4


def texts_of(line: dict[str, object]) -> str:
    """All of a training line that a model is trained on."""
    return json.dumps(line.get("messages", line.get("fields")), ensure_ascii=False)


def test_no_set_of_a_run_holds_a_held_out_row(finished_run: Path) -> None:
    held_out = HeldOut([finished_run / "data" / name for name in HELD_OUT], HeldOutConfig())
    for name in SETS:
        lines = [line for _, line in read_jsonl(finished_run / name)]
        assert lines, name
        for line in lines:
            row = Row(str(line["id"]).partition("#")[0], str(line["task"]), "en", {"text": texts_of(line)}, "")
            assert held_out.reason(row) is None, (name, line)


@pytest.fixture(scope="module")
def planted(finished_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run's data with held-out rows among the training rows: some under their own id, some under a new one."""
    folder = tmp_path_factory.mktemp("planted") / "data"
    folder.mkdir()
    for name in (*HELD_OUT, "general.jsonl"):
        (folder / name).write_bytes((finished_run / "data" / name).read_bytes())
    train = [line for _, line in read_jsonl(finished_run / "data" / "train.jsonl")]
    test = [line for _, line in read_jsonl(finished_run / "data" / "test.jsonl")]
    long = [line for line in test if max(len(units(str(text))) for text in line["fields"].values()) >= 14]
    assert len(long) >= NUM_PLANTED
    renamed = [line | {"id": f"planted-{number}"} for number, line in enumerate(long[:NUM_PLANTED])]
    write_jsonl(folder / "train.jsonl", [*train, *test[:NUM_PLANTED], *renamed])
    return folder


@pytest.mark.parametrize("kind", ["rl_set", "sft_set", "pairs", "target_set", "refinement_set"])
def test_planted_held_out_rows_are_left_out_and_counted(
    kind: str, planted: Path, finished_run: Path, tmp_path: Path
) -> None:
    generation = "{max_new_tokens: 6, max_prompt_tokens: 240}"
    settings = {
        "rl_set": [],
        "sft_set": [],
        "pairs": ["option_order={}", "validation_share=0"],
        "target_set": [
            f"model={finished_run}/explore.seed1", f"diagnosis={finished_run}/diagnose.seed1", "num_rows=200",
            f"soft_labels={{num_candidates: 2, floor: 0.0, generation: {generation}}}",
        ],
        "refinement_set": [
            f"model={finished_run}/target.seed1", "num_rows=24", "num_candidates=24", "num_samples=2",
            f"generation={generation}",
        ],
    }[kind]  # fmt: skip
    with process_restored():
        curate(kind, None, [f"data={planted}", *settings], tmp_path / "set", False)
    counts = json.loads((tmp_path / "set" / "manifest.json").read_text())["counts"]
    assert counts["held_out/id"] == NUM_PLANTED and counts["held_out/ngrams"] >= NUM_PLANTED
    name = {"sft_set": "conversations.jsonl", "target_set": "conversations.jsonl", "pairs": "train.jsonl"}.get(kind)
    key = "row" if kind == "pairs" else "id"
    ids = {line[key] for _, line in read_jsonl(tmp_path / "set" / (name or "rows.jsonl"))}
    held = {line["id"] for file in HELD_OUT for _, line in read_jsonl(planted / file)}
    assert ids and not ids & held and not any(str(one).startswith("planted-") for one in ids)


def test_a_planted_held_out_text_does_not_become_tokens(planted: Path, finished_run: Path, tmp_path: Path) -> None:
    test = [line for _, line in read_jsonl(planted / "test.jsonl")]
    texts = sorted((text for line in test for text in map(str, line["fields"].values())), key=lambda t: -len(units(t)))
    corpus = [line for _, line in read_jsonl(finished_run / "data" / "corpus.jsonl")]
    clean = len(corpus)
    corpus += [{"id": test[0]["id"], "text": "its id alone"}, {"id": "renamed", "text": f"before {texts[0]} after"}]
    write_jsonl(planted / "corpus.jsonl", corpus)
    with process_restored():
        settings = [f"corpus={planted}", f"tokenizer={finished_run}/tokenizer"]
        curate("tokenize", None, settings, tmp_path / "tokens", False)
    counts = json.loads((tmp_path / "tokens" / "manifest.json").read_text())["counts"]
    assert (counts["held_out/id"], counts["held_out/ngrams"], counts["documents"]) == (1, 1, clean)
