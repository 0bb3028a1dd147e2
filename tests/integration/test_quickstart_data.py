"""The data stages of the quickstart's recipe, in small: raw documents, filter, tokens, and the way back through all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from megatron_redone.cli.main import main
from megatron_redone.common.jsonl import read_jsonl
from megatron_redone.training.sample_log import PACKED_SAMPLES, read_sample_log

from .mini_recipe import ROOT, process_restored

RECIPE = ROOT / "examples" / "quickstart" / "recipe.yaml"
STAGES = ("data", "corpus", "tokenizer", "tokens", "pretrain")
SMALLER = [
    "workers=1",
    "data.rows={train: 8, validation: 2, diagnosis: 4, test: 8}",
    "data.general_rows=8",
    "data.corpus_documents=400",
    "tokenizer.vocab_size=1200",
    "pretrain.model.preset=qwen3-tiny",
    "pretrain.epochs=null",
    "pretrain.steps=2",
]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("quickstart")
    recipe = yaml.safe_load(RECIPE.read_text(encoding="utf-8"))
    recipe |= {"comparison": None, "stages": {name: recipe["stages"][name] for name in STAGES}}
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False), encoding="utf-8")
    with process_restored():
        assert main(["run", str(folder / "recipe.yaml"), f"output={folder / 'run'}", *SMALLER]) == 0
    return folder / "run"


def documents(folder: Path) -> list[dict[str, Any]]:
    return [document for _, document in read_jsonl(folder / "corpus.jsonl")]


def test_all_after_the_filter_read_what_it_kept(run: Path) -> None:
    raw, kept = documents(run / "data"), documents(run / "corpus")
    counts = json.loads((run / "corpus" / "manifest.json").read_text())["counts"]
    planted = json.loads((run / "data" / "manifest.json").read_text())["counts"]
    assert counts["documents"] == len(raw) == planted["documents"] and counts["kept"] == len(kept)
    for reason, kind in (("encoding", "encoding"), ("html", "page"), ("repetition", "repetition")):
        assert 0 < planted[f"faults/{kind}"] <= counts[f"dropped/{reason}"] <= planted[f"faults/{kind}"] + 2
    assert {document.get("fault") for document in kept} == {None, "markup", "private"}
    assert sum("fault" not in document for document in kept) > 0.95 * sum("fault" not in document for document in raw)
    for stage in ("tokenizer", "tokens"):
        manifest = json.loads((run / stage / "manifest.json").read_text())
        assert manifest["counts"]["documents"] == len(kept)
        assert manifest["inputs"]["corpus"]["path"] == "corpus"


def test_the_report_tells_what_was_dropped(run: Path) -> None:
    page = (run / "report.html").read_text()
    assert f"corpus: {len(documents(run / 'corpus'))} of {len(documents(run / 'data'))} documents are kept" in page
    assert "near_duplicate" in page and "corpus/filter.html" in page


def test_lineage_goes_through_the_filter(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept = documents(run / "corpus")
    lines = read_sample_log(run / "pretrain" / PACKED_SAMPLES)
    learnt = {int(one.split(":")[1]) for line in lines for one in line["read"]}
    number = next(n for n in sorted(learnt) if kept[n]["form"] in ("single_search", "click_through"))
    capsys.readouterr()
    with process_restored():
        assert main(["lineage", kept[number]["id"], "--runs", str(run), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [one["stage"] for one in found["standing"]] == ["data", "corpus"]
    assert {one["stage"]: one["verdict"] for one in found["training"]} == {"pretrain": "learnt"}
    assert set(kept[number]["made_of"]) <= {one["id"] for one in found["made_of"]}
