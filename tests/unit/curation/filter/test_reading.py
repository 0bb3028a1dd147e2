from __future__ import annotations

import gzip
import re
from pathlib import Path

import pytest

from megatron_redone.common.errors import DataError
from megatron_redone.common.seeding import derive_seed
from megatron_redone.curation.filter.pieces import plan_tasks
from megatron_redone.curation.filter.reading import Refusal, Source, read_piece


def read(path: Path, bytes_per_task: int = 1 << 20) -> tuple[list[Source], list[Refusal]]:
    items = [item for task in plan_tasks([path], bytes_per_task) for piece in task for item in read_piece(piece)]
    return [i for i in items if isinstance(i, Source)], [i for i in items if isinstance(i, Refusal)]


def test_a_missing_id_is_made_of_file_and_line_and_other_fields_stay(tmp_path: Path) -> None:
    path = tmp_path / "notes.jsonl"
    path.write_text('{"text": "one", "topic": "food"}\n\n{"id": 7, "text": "two"}\n')
    sources, refusals = read(path)
    assert [(s.id, s.text, s.place, s.fields) for s in sources] == [
        ("notes.jsonl:1", "one", "notes.jsonl:1", {"topic": "food"}),
        ("7", "two", "notes.jsonl:3", {}),
    ]
    assert refusals == []


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b'{"text": "cut', "not JSON"),
        (b'{"text": "\xff\xfe"}', "not UTF-8 at byte 10"),
        (b'["text"]', "a list, expected a JSON object"),
        (b'{"id": "a"}', "no text under the key `text`"),
        (b'{"text": 3}', "no text under the key `text`"),
        (b'{"id": [1], "text": "x"}', r"id=\[1\] is no id"),
        (b'{"id": "", "text": "x"}', "id='' is no id"),
        (b"[" * 100_000, "nested too deeply|not JSON"),
    ],
)
def test_a_bad_line_is_refused_with_file_and_line(tmp_path: Path, line: bytes, problem: str) -> None:
    path = tmp_path / "notes.jsonl"
    path.write_bytes(b'{"text": "good"}\n' + line + b'\n{"text": "also good"}\n')
    sources, (refusal,) = read(path)
    assert [s.text for s in sources] == ["good", "also good"]
    assert refusal.message.startswith("notes.jsonl:2: ")
    assert re.search(problem, refusal.message)


def test_a_compressed_file_that_breaks_off_gives_what_came_before(tmp_path: Path) -> None:
    path = tmp_path / "notes.jsonl.gz"
    whole = gzip.compress("".join(f'{{"text": "note {derive_seed(i)} {i}"}}\n' for i in range(2000)).encode())
    path.write_bytes(whole[: len(whole) // 2])
    sources, (refusal,) = read(path)
    assert 0 < len(sources) < 2000
    assert refusal.message.startswith(f"notes.jsonl.gz:{len(sources) + 1}: the compressed file breaks off")
    path.write_bytes(b"not gzip at all")
    assert "breaks off" in read(path)[1][0].message


def test_an_empty_file_is_told(tmp_path: Path) -> None:
    path = tmp_path / "notes.jsonl"
    path.write_bytes(b"")
    _, (refusal,) = read(path)
    assert (refusal.message, refusal.is_line) == ("notes.jsonl:1: the file is empty; leave it out", False)


@pytest.mark.parametrize("bytes_per_task", [1, 20, 57, 58, 1000])
def test_a_plain_file_is_cut_at_line_ends_and_lines_keep_their_numbers(tmp_path: Path, bytes_per_task: int) -> None:
    path = tmp_path / "notes.jsonl"
    path.write_text("".join(f'{{"id": {i}, "text": "{"x" * (i * 7 % 40)}"}}\n' for i in range(50)) + '{"text": "end"}')
    sources, refusals = read(path, bytes_per_task)
    assert refusals == []
    assert [source.place for source in sources] == [f"notes.jsonl:{i + 1}" for i in range(51)]


def test_small_files_share_a_task_and_labels_differ(tmp_path: Path) -> None:
    for folder in ("a/x", "b/x"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "n.jsonl").write_text('{"text": "t"}\n')
    ((first, second),) = plan_tasks([tmp_path / "a/x", tmp_path / "b/x"], 1000)
    assert (first.label, second.label) == ("x/n.jsonl", "x/n.jsonl#2")
    assert len(plan_tasks([tmp_path / "a/x", tmp_path / "b/x"], 14)) == 2


def test_the_corpus_of_an_artefact_is_taken_not_its_other_files(tmp_path: Path) -> None:
    for name in ("corpus.jsonl", "train.jsonl"):
        (tmp_path / name).write_text('{"text": "t"}\n')
    ((piece,),) = plan_tasks([tmp_path], 1000)
    assert piece.path.endswith("corpus.jsonl")


@pytest.mark.parametrize(
    ("name", "problem"),
    [("nowhere", "no such file or folder"), ("notes.txt", "not a file of documents"), ("empty", "holds no .jsonl")],
)
def test_inputs_without_documents_are_refused(tmp_path: Path, name: str, problem: str) -> None:
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=problem):
        plan_tasks([tmp_path / name], 1000)
