"""General texts become documents of about equal length, of one language each, with the ids they are made of."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from megatron_redone.common.errors import DataError
from megatron_redone.common.jsonl import read_jsonl
from megatron_redone.curation.general_text import write_general_text
from megatron_redone.curation.interactions.config import GeneralTextConfig
from megatron_redone.curation.segments import estimated_tokens


def cut(
    tmp_path: Path, *texts: Any, share: float = 0.0, **settings: Any
) -> tuple[list[dict[str, Any]], dict[str, int]]:
    source, out = tmp_path / "texts", tmp_path / "out"
    source.mkdir(exist_ok=True)
    out.mkdir(exist_ok=True)
    lines = [
        text if isinstance(text, dict) else {"id": f"t{number}", "text": text} for number, text in enumerate(texts)
    ]
    (source / "a.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    config = GeneralTextConfig.model_validate(settings)
    counts, _ = write_general_text(config, source, out, share, estimated_tokens)
    return [value for path in sorted(out.glob("*.jsonl")) for _, value in read_jsonl(path)], counts


def test_short_texts_are_joined_up_to_the_length_and_languages_stay_apart(tmp_path: Path) -> None:
    english, chinese = "We walked to the sea. ", "我们去了海边。"
    found, counts = cut(tmp_path, *[english, chinese] * 8, max_tokens=30)
    assert {document["language"] for document in found} == {"en", "zh"}
    for document in found:
        assert estimated_tokens(document["text"]) <= 30
        wanted = english.strip() if document["language"] == "en" else chinese
        assert set(document["text"].split("\n\n")) == {wanted}
    assert sum(len(document["made_of"]) for document in found) == 16 == counts["texts"]
    assert max(len(document["made_of"]) for document in found) > 2


def test_a_long_text_is_cut_at_sentences_and_every_document_names_it(tmp_path: Path) -> None:
    text = " ".join(f"Sentence number {number} is here." for number in range(60))
    found, _ = cut(tmp_path, text, max_tokens=40)
    assert " ".join(document["text"] for document in found) == text
    assert all(document["text"].endswith("here.") and document["made_of"] == ["t0"] for document in found)
    assert {document["source"] for document in found} == {"a.jsonl:1"}
    assert len({document["id"] for document in found}) == len(found)


def test_without_joining_a_short_text_is_a_document_of_its_own(tmp_path: Path) -> None:
    found, counts = cut(tmp_path, "One.", "Two words here now.", join=False, min_tokens=3, max_tokens=40)
    assert [document["text"] for document in found] == ["Two words here now."]
    assert counts["documents_too_short"] == 1


def test_bad_lines_are_refused_and_keys_of_others_left_alone(tmp_path: Path) -> None:
    good = {"id": "a", "text": "Hello there.", "url": "https://example.org", "language": "de"}
    found, counts = cut(tmp_path, good, {"id": "a", "text": "Again."}, {"id": "b"}, {"id": "c", "text": " "}, share=0.9)
    assert [document["language"] for document in found] == ["de"]
    assert counts["lines_refused"] == 3
    with pytest.raises(DataError, match=r"a.jsonl:2: the id 'a' was met before"):
        cut(tmp_path / "strict" if (tmp_path / "strict").mkdir() is None else tmp_path, good, {"id": "a", "text": "B."})


def test_nothing_left_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"1 were shorter than min_tokens=20; lower it"):
        cut(tmp_path, "Short.", min_tokens=20, max_tokens=40)
