from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st

from megatron_redone.common.errors import DataError
from megatron_redone.curation.sft import records
from megatron_redone.curation.sft.records import input_files, read_records

OBJECTS = [{"a": 1}, {"b": ["x", {"c": "]},["}]}, {"语": "文\n行"}]


def values(path: Path) -> list[Any]:
    return [record.value for record in read_records(path)]


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz", ".json", ".json.gz"])
@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
def test_every_form_gives_the_same_objects(tmp_path: Path, suffix: str, bom: bytes) -> None:
    path = tmp_path / f"rows{suffix}"
    lines = "\n".join(json.dumps(value, ensure_ascii=False) for value in OBJECTS)
    text = lines if ".jsonl" in suffix else json.dumps(OBJECTS, ensure_ascii=False, indent=2)
    raw = bom + text.encode()
    path.write_bytes(gzip.compress(raw) if suffix.endswith(".gz") else raw)
    assert values(path) == OBJECTS
    assert [record.index for record in read_records(path)] == [0, 1, 2]


@given(
    found=st.lists(st.dictionaries(st.text(max_size=3), st.text(max_size=12), max_size=3), max_size=8),
    piece=st.integers(1, 9),
    indent=st.sampled_from([None, 1]),
)
def test_a_list_read_in_pieces_of_any_size_is_the_list(
    tmp_path_factory: pytest.TempPathFactory, found: list[Any], piece: int, indent: int | None
) -> None:
    path = tmp_path_factory.mktemp("lists") / "rows.json"
    path.write_text(json.dumps(found, ensure_ascii=False, indent=indent), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(records, "_PIECE_BYTES", piece)
        assert values(path) == found


def test_objects_of_a_list_know_their_lines(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    path.write_text('[\n {"a":\n  1},\n\n {"b": 2}, {"c": 3}]', encoding="utf-8")
    assert [record.line for record in read_records(path)] == [2, 5, 5]


def test_a_bad_line_is_told_and_the_next_is_read(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"a": 1}\n\n{"a": \n\xff\n[1]\n' + b"[" * 100_000 + b'\n{"a": 2}\n')
    found = [(record.line, record.problem) for record in read_records(path)]
    assert [line for line, _ in found] == [1, 3, 4, 5, 6, 7]
    assert found[0][1] is None and found[-1][1] is None
    for (_, problem), rule in zip(found[1:-1], ("not JSON", "not UTF-8", "a list", "nested too deeply"), strict=True):
        assert problem is not None and rule in problem


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ('[{"a": 1}\n {"b": 2}]', r"rows\.json:2: expected a comma"),
        ('[{"a": 1},\n', r"rows\.json:2: the list has no end"),
        ('[{"a": 1}\n', r"rows\.json:2: expected a comma or the end"),
        ('[{"a": 1},\n{"b": ', r"rows\.json:2: not JSON"),
        ('[{"a": 1}]\n{"b": 2}', r"rows\.json:2: something follows the list"),
    ],
)
def test_a_damaged_list_ends_the_reading_with_its_line(tmp_path: Path, text: str, rule: str) -> None:
    path = tmp_path / "rows.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=rule):
        values(path)


@pytest.mark.parametrize("name", ["rows.jsonl.gz", "rows.json.gz"])
def test_a_gzip_file_that_is_cut_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    rows = [{"n": number, "text": str(number**7)} for number in range(20_000)]
    text = json.dumps(rows) if name.endswith(".json.gz") else "\n".join(map(json.dumps, rows))
    raw = gzip.compress(text.encode())
    path.write_bytes(raw[: len(raw) // 2])
    with pytest.raises(DataError, match=r"rows\.jsonl?\.gz:\d+: the gzip file is damaged or cut"):
        values(path)


def test_too_large_values_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "MAX_OBJECT_BYTES", 100)
    monkeypatch.setattr(records, "_PIECE_BYTES", 10)
    for name, text in (("rows.jsonl", '{"a": "' + "x" * 200 + '"}'), ("rows.json", '[{"a": "' + "x" * 200 + '"}]')):
        path = tmp_path / name
        path.write_text(text)
        with pytest.raises(DataError, match="MiB"):
            values(path)


def test_a_folder_gives_its_lines_before_its_lists(tmp_path: Path) -> None:
    for name in ("b.json", "manifest.json", "below/c.json.gz", "note.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert [path.name for path in input_files(tmp_path)] == ["b.json", "c.json.gz"]
    (tmp_path / "a.jsonl").touch()
    assert [path.name for path in input_files(tmp_path)] == ["a.jsonl"]
    with pytest.raises(DataError, match=r"note\.txt: the name has to end with"):
        input_files(tmp_path / "note.txt")
    with pytest.raises(DataError, match="no file that ends with"):
        input_files(tmp_path / "nothing")
