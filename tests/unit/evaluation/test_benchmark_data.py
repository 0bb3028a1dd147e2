from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from megatron_redone.common.errors import DataError, InputError
from megatron_redone.evaluation.benchmark_data import read_benchmark
from megatron_redone.evaluation.sns_bench.benchmark import sns_bench

BENCHMARK = sns_bench(None, "none")


def write(folder: Path, file: str, rows: Any) -> None:
    (folder / file).write_text(json.dumps(rows), encoding="utf-8")


def test_files_that_are_there_are_read_in_the_benchmarks_order(tmp_path: Path) -> None:
    write(tmp_path, "Note-NER.json", [{"question": "q", "content": "c", "answer": ""}])
    write(tmp_path, "Note-MRC-simple.json", [{"query": "q", "content": "c", "answer": a} for a in ([], "x", ["x"])])
    write(tmp_path, "other.json", 1)
    rows = read_benchmark(tmp_path, BENCHMARK)
    assert list(rows) == ["Note-MRC-simple.json", "Note-NER.json"] and len(rows["Note-MRC-simple.json"]) == 3
    assert list(read_benchmark(tmp_path, BENCHMARK, ["Note-NER.json"])) == ["Note-NER.json"]


@pytest.mark.parametrize(
    ("file", "row", "said"),
    [
        ("Note-NER.json", {"question": "q", "content": "c"}, "no field 'answer'"),
        ("Note-NER.json", {"question": 1, "content": "c", "answer": "x"}, "question is int, expected a text"),
        ("Note-NER.json", {"question": "q", "content": "c", "answer": ["x"]}, "answer is list, expected a text"),
        ("Note-NER.json", "row", "a str, expected an object"),
        ("Note-MRC-simple.json", {"query": "q", "content": "c", "answer": [1]}, "a text or a list of texts"),
        ("Note-Gender.json", {"content": "c", "answer": "Maybe"}, "neither Yes nor No"),
        ("Note-QueryCorr-topic.json", {"content": "c", "answer": "4"}, "none of -1, 0, 1, 2, 3"),
        ("Note-CHLW.json", {"content": "c", "answer": "x"}, "no list of texts"),
        ("Note-MRC-complex.json", {"content": "c", "answer": "x"}, "no list of Option and Reason"),
        ("Note-QueryGen.json", {"content": "c", "answer": ""}, "answer is empty"),
    ],
)
def test_a_row_that_cannot_be_used_is_refused_by_file_and_index(tmp_path: Path, file: str, row: Any, said: str) -> None:
    write(tmp_path, file, [row])
    with pytest.raises(DataError) as error:
        read_benchmark(tmp_path, BENCHMARK)
    assert f"{file}, index 0: " in str(error.value) and said in str(error.value)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"[{", "not JSON"),
        (b"\xff", "not UTF-8"),
        (b"{}", "expected a JSON array"),
        (b"[]", "at least one"),
        (b"[" * 100_000, "cannot be read"),
    ],
)
def test_a_file_that_is_no_array_of_rows(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "Note-NER.json").write_bytes(content)
    with pytest.raises(DataError) as error:
        read_benchmark(tmp_path, BENCHMARK)
    assert said in str(error.value)


def test_folders_and_names_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none of sns-bench's files"):
        read_benchmark(tmp_path, BENCHMARK)
    with pytest.raises(DataError, match=r"no such folder"):
        read_benchmark(tmp_path / "no", BENCHMARK)
    with pytest.raises(InputError, match=r"--file Note-X\.json: sns-bench has"):
        read_benchmark(tmp_path, BENCHMARK, ["Note-X.json"])
    with pytest.raises(InputError, match=r"--file Note-NER\.json: not in"):
        read_benchmark(tmp_path, BENCHMARK, ["Note-NER.json"])


def test_the_published_files_are_all_usable(real_data: Path) -> None:
    assert len(read_benchmark(real_data / "sns_bench", BENCHMARK)) == 12
