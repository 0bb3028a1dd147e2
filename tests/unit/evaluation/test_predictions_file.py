from __future__ import annotations

import json
from pathlib import Path

import pytest

from megatron_redone.common.errors import DataError
from megatron_redone.evaluation.predictions_file import read_predictions

SIZES = {"A.json": 3, "B.json": 2, "absent.json": None}


def line(file: object = "A.json", index: object = 0, output: object = "x", **more: object) -> str:
    return json.dumps({"file": file, "index": index, "output": output, **more}) + "\n"


def test_lines_in_any_order_with_further_keys(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text(line(index=2, prompt="?") + "\n" + line(index=0) + line("B.json", 1, "\ud800\0"))
    read = read_predictions(path, SIZES)
    assert read.outputs == {"A.json": {2: "x", 0: "x"}, "B.json": {1: "\ud800\0"}} and read.num_unused == 0


def test_answers_to_files_that_are_not_read_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text(line() + line("absent.json", 7))
    assert read_predictions(path, SIZES).num_unused == 1


def test_every_problem_is_listed_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    bad = [
        line(index=0),
        "{broken\n",
        line(index=0),
        line("C.json"),
        line(index=3),
        line(index=-1),
        line(index="0"),
        line(index=True),
        line(output=None),
        json.dumps({"file": "A.json", "index": 1}) + "\n",
        "[1]\n",
        '{"file": "A.json", "index": ' + "9" * 5000 + ', "output": ""}\n',
        "[" * 100_000 + "\n",
    ]
    path.write_text("".join(bad))
    with pytest.raises(DataError) as error:
        read_predictions(path, SIZES)
    said = str(error.value)
    assert said.startswith("12 line(s) of")
    for number, reason in [
        (2, "not JSON"),
        (3, "a second answer to A.json, index 0; the first is in line 1"),
        (4, "file 'C.json' is not of this benchmark"),
        (5, "index 3 is outside 0..2"),
        (6, "index -1 is outside 0..2"),
        (7, "index '0' is no whole number"),
        (8, "index True is no whole number"),
        (9, "output is NoneType"),
        (10, "lacks output"),
        (11, "expected a JSON object"),
        (12, "cannot be read"),
        (13, "cannot be read"),
    ]:
        assert f"{path}:{number}: {reason}" in said or (reason in said and f"{path}:{number}:" in said)


def test_bytes_that_are_no_utf_8_and_files_without_an_answer(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_bytes(line().encode() + b"\xff\n")
    with pytest.raises(DataError, match=r"p\.jsonl:2: not UTF-8"):
        read_predictions(path, SIZES)
    path.write_text(line("absent.json"))
    with pytest.raises(DataError, match=r"no answer to any row"):
        read_predictions(path, SIZES)
    assert read_predictions(path, SIZES, may_be_empty=True).outputs == {}
    with pytest.raises(DataError, match=r"no such file"):
        read_predictions(tmp_path / "none", SIZES)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "no answer to any row"),
        (b"\n\n", "no answer to any row"),
        (b'{"file": "A.json", "index": 0, "output": "x\n', "1: not JSON (Invalid control character at column"),
        (b'{"file": "A.json", "index": 0, "output": "\xc4\xd0"}\n', "1: not UTF-8 at byte"),
        (b'{"file": "A.json", "index": 0, "output": "\xed\xa0\x80"}\n', "1: not UTF-8 at byte"),
        (b"\xef\xbb\xbf" + line().encode(), "1: not JSON (Unexpected UTF-8 BOM"),
        (("\ufeff" + line()).encode("utf-16-le"), "1: not UTF-8 at byte 0"),
        (b"\0\0" + line().encode(), "1: not JSON"),
        (f"[{line().strip()}]".encode(), "1: a list, expected a JSON object in each line"),
    ],
)
def test_files_that_are_no_predictions(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "p.jsonl"
    path.write_bytes(content)
    with pytest.raises(DataError) as error:
        read_predictions(path, SIZES)
    assert said in str(error.value)


def test_a_folder_is_no_file_of_predictions(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a folder, expected a file; check the path"):
        read_predictions(tmp_path, SIZES)
