"""Planted faults: as many as asked, marked, and what the filter drops, mends and keeps of them."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from megatron_redone.common.errors import InputError
from megatron_redone.common.jsonl import read_jsonl
from megatron_redone.curation.filter.config import DecontaminationConfig, FilterConfig, LanguageRules
from megatron_redone.curation.filter.run import filter_corpus
from megatron_redone.curation.synthesize.config import FaultShares, SynthesizeConfig
from megatron_redone.curation.synthesize.faults import LEAKED_FIELDS
from megatron_redone.curation.synthesize.generate import generate

KINDS = tuple(FaultShares.model_fields)
TASKS = ("note_security", "hashtag_single", "post_view_search", "emotional_companion")
ROWS = {"train": 8, "validation": 4, "diagnosis": 4, "test": 8}


def config(**changes: Any) -> SynthesizeConfig:
    faults = dict.fromkeys(KINDS, 0.05)
    settings = {"tasks": TASKS, "rows": ROWS, "general_rows": 4, "corpus_documents": 400, "faults": faults}
    return SynthesizeConfig.model_validate(settings | changes)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("faults")
    generate(config(), folder, 0)
    return folder


def documents(folder: Path) -> list[dict[str, Any]]:
    return [document for _, document in read_jsonl(folder / "corpus.jsonl")]


def test_clean_documents_stay_as_they_are_in_their_order(written: Path, tmp_path: Path) -> None:
    generate(config(faults={}), tmp_path, 0)
    assert [document for document in documents(written) if "fault" not in document] == documents(tmp_path)


def test_every_fault_is_planted_as_often_as_asked_and_ids_stay_unique(written: Path) -> None:
    found = documents(written)
    assert Counter(d["fault"] for d in found if "fault" in d) == dict.fromkeys(KINDS, 20)
    assert len({document["id"] for document in found}) == len(found) == 400 + 20 * len(KINDS)
    places = {document["id"]: place for place, document in enumerate(found)}
    copies = [document for document in found if "made_of" in document and "fault" in document]
    assert len(copies) == 40
    assert all(places[copy["made_of"][0]] < places[copy["id"]] for copy in copies)


def test_equal_seeds_give_equal_documents(written: Path, tmp_path: Path) -> None:
    generate(config(), tmp_path, 0)
    assert (tmp_path / "corpus.jsonl").read_bytes() == (written / "corpus.jsonl").read_bytes()


def test_the_filter_drops_or_mends_every_planted_fault(written: Path, tmp_path: Path) -> None:
    settings = FilterConfig(
        language=LanguageRules(keep=("en", "zh", "und")),
        decontamination=DecontaminationConfig(benchmarks=("data",), files=("test.jsonl",), fields=LEAKED_FIELDS),
        samples_per_reason=1000,
    )
    filter_corpus(settings, [written], tmp_path, 0, 0.0, benchmarks=[written])
    planted = {document["id"]: document["fault"] for document in documents(written) if "fault" in document}
    reasons = {sample["id"]: path.stem for path in (tmp_path / "dropped").iterdir() for _, sample in read_jsonl(path)}
    kept = {document["id"]: document for document in documents(tmp_path)}
    by_fault = {kind: Counter(reasons.get(one, "kept") for one in planted if planted[one] == kind) for kind in KINDS}
    assert by_fault["exact_copy"] == {"exact_duplicate": 20}
    assert by_fault["near_copy"]["near_duplicate"] >= 19
    assert by_fault["page"] == {"html": 20}
    assert by_fault["repetition"] == {"repetition": 20}
    assert by_fault["encoding"] == {"encoding": 20}
    assert set(by_fault["held_out"]) <= {"benchmark", "exact_duplicate", "near_duplicate"}
    assert by_fault["markup"]["kept"] >= 19 and by_fault["private"]["kept"] >= 19
    for one, document in kept.items():
        assert "<p>" not in document["text"] and "138" not in document["text"] and "@" not in document["text"], one
    clean_dropped = Counter(reason for one, reason in reasons.items() if one not in planted)
    assert clean_dropped.total() <= 0.03 * 400, clean_dropped
    assert json.loads((tmp_path / "filter.json").read_text())["read"]["documents"] == 400 + 20 * len(KINDS)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rows": {**ROWS, "test": 0}}, r"faults\.held_out: there is not a test row"),
        ({"corpus_documents": 0, "faults": {"exact_copy": 0.5}}, None),
    ],
)
def test_faults_without_anything_to_make_them_of(tmp_path: Path, changes: dict[str, Any], message: str | None) -> None:
    if message is None:
        generate(config(**changes), tmp_path, 0)
        assert documents(tmp_path) == []
        return
    with pytest.raises(InputError, match=message):
        generate(config(**changes), tmp_path, 0)
