from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from megatron_redone.common.errors import DataError
from megatron_redone.curation.filter.benchmarks import BenchmarkIndex, write_index
from megatron_redone.curation.filter.config import DecontaminationConfig

QUESTION = "Which of the two harbours lies nearer to the old lighthouse that was rebuilt in the summer of last year?"
NOTE = "昨天傍晚沿着老城墙慢慢走了一圈，遇到一位卖糖画的老人，他说这门手艺已经做了四十多年。"
PROMPT = "Read the note below with care and answer with one of the given labels and nothing else at all please."


def index(folder: Path, rows: object, name: str = "bench.json", **settings: object) -> BenchmarkIndex:
    (folder / name).write_text(json.dumps(rows), encoding="utf-8")
    config = DecontaminationConfig.model_validate({"benchmarks": ["./x"], **settings}, strict=False)
    write_index([folder], config, folder / "index")
    return BenchmarkIndex(folder / "index", config.ngram_units, config.min_matches)


@pytest.fixture
def rows() -> list[object]:
    return [{"question": QUESTION, "answer": "B"}, {"content": {"notes": [NOTE]}}, {"question": "Short one?"}]


def test_planted_overlap_is_found_and_named(tmp_path: Path, rows: list[object]) -> None:
    found = index(tmp_path, rows)
    name = tmp_path.name
    assert (found.match(f"My quiz: {QUESTION.upper()} And so on.") or "").startswith(f"{name}/bench.json:0 (")
    assert (found.match(f"转载：{NOTE[5:25]}，后面是别的话。") or "").startswith(f"{name}/bench.json:1 (")


def test_clean_texts_have_no_match(tmp_path: Path, rows: list[object]) -> None:
    found = index(tmp_path, rows)
    assert found.match("The lighthouse was rebuilt in the summer, and both harbours are near. " * 3) is None
    assert found.match("沿着城墙走了一圈，遇到一位卖糖的老人。") is None
    assert found.match("Short one?") is None  # too short to say anything
    assert found.match("") is None


def test_a_short_benchmark_text_is_found_as_a_whole(tmp_path: Path) -> None:
    found = index(tmp_path, ["the nine words of this text are all here"])
    assert found.match("I say that the nine words of this text are all here, friend.") is not None
    assert found.match("I say that the nine words of this text are all there, friend.") is None


def test_a_prompt_that_many_rows_share_does_not_count(tmp_path: Path) -> None:
    rows = [{"prompt": PROMPT, "note": f"{word} {QUESTION[:40]}"} for word in ("one", "two", "three", "four")]
    assert index(tmp_path, rows, max_rows_per_ngram=3).match(PROMPT) is None
    assert index(tmp_path, rows, max_rows_per_ngram=4).match(PROMPT) is not None


def test_fields_limit_what_counts(tmp_path: Path, rows: list[object]) -> None:
    found = index(tmp_path, rows, fields=["notes"])
    assert found.match(QUESTION) is None
    assert found.match(NOTE) is not None


def test_min_matches_asks_for_more(tmp_path: Path, rows: list[object]) -> None:
    quote = " ".join(QUESTION.split()[:14])  # two 13-grams
    assert index(tmp_path, rows, min_matches=2).match(quote) is not None
    assert index(tmp_path, rows, min_matches=3).match(quote) is None


def test_jsonl_and_compressed_files_are_read(tmp_path: Path) -> None:
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(f'{{"t": "x"}}\n{{"t": "{QUESTION}"}}\n'.encode()))
    assert ".jsonl.gz:1 (" in (index(tmp_path, [], "other.json").match(QUESTION) or "")


@pytest.mark.parametrize(("content", "where"), [('{"a"', "bench.jsonl:1"), ("{}\n[", "bench.jsonl:2")])
def test_a_broken_benchmark_is_refused(tmp_path: Path, content: str, where: str) -> None:
    (tmp_path / "bench.jsonl").write_text(content)
    with pytest.raises(DataError, match=f"{where}: a benchmark that is no JSON"):
        write_index([tmp_path], DecontaminationConfig(benchmarks=("./x",)), tmp_path / "index")
    with pytest.raises(DataError, match="no benchmark files"):
        write_index([tmp_path / "nowhere"], DecontaminationConfig(benchmarks=("./x",)), tmp_path / "index")


def test_only_the_named_files_of_a_folder_count(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text(json.dumps({"question": QUESTION}) + "\n", encoding="utf-8")
    found = index(tmp_path, {"content": NOTE}, "test.jsonl", files=("te?t.jsonl",))
    assert found.match(QUESTION) is None
    assert found.match(NOTE) is not None
    with pytest.raises(DataError, match=r"no file fits files=\['dev\.jsonl'\]; it holds .*test\.jsonl"):
        index(tmp_path, {"content": NOTE}, "test.jsonl", files=("test.jsonl", "dev.jsonl"))
