from __future__ import annotations

from pathlib import Path

import pytest

from megatron_redone.common.errors import ConfigError
from megatron_redone.curation.diagnosis.bucket import (
    BUCKET,
    bucket_for,
    bucket_of,
    catalogue_names,
    read_bucket,
    write_bucket,
)
from megatron_redone.reporting.schema import DiagnosedTask, DiagnosisResult


def found(*weak: str) -> DiagnosisResult:
    tasks = tuple(
        DiagnosedTask(task=name, capability="c", score=1, interval=(0, 2), weak=True, reason=f'{name}: "low", #1')
        for name in weak
    )
    return DiagnosisResult(model="m", rule="r", tasks=tasks, weak_bucket=weak)


def test_the_file_is_read_back_with_its_reasons(tmp_path: Path) -> None:
    written = write_bucket(tmp_path / BUCKET, found("note_ner", "query_intent"))
    assert read_bucket(tmp_path / BUCKET) == written == bucket_of(found("note_ner", "query_intent"))
    assert written is not None and written.tasks["note_ner"].reason == 'note_ner: "low", #1'


def test_files_of_a_benchmark_stand_for_the_tasks_that_ask_the_same() -> None:
    assert catalogue_names("Note-NER.json") == ["note_ner"] and catalogue_names("Note-Unknown.json") == []
    bucket = bucket_of(found("Note-NER.json", "Note-Unknown.json"))
    assert bucket is not None and list(bucket.tasks) == ["note_ner"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tasks: {note_nre: {}, query_intent: {}, nothing_like: {}}",
            r"(?s)2 problems.*'note_nre'.*did you mean 'note_ner'.*'nothing_like'"),
        ("tasks: {}", "tasks"),
        ("", "the file is empty"),
        ("tasks: {note_ner: {weight: 0}}", "weight"),
        ("tasks: {note_ner: {weigth: 2}}", "weigth"),
        ("tasks: {note_ner: {}, note_ner: {}}", "stands twice"),
        ("tasks: [note_ner]", "tasks"),
        ("tasks: {note_ner: ", "bucket.yaml"),
        ("\x00", "bucket.yaml"),
    ],
)  # fmt: skip
def test_a_broken_edit_is_refused_by_name(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / BUCKET
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_bucket(path)


def test_json_is_read_too(tmp_path: Path) -> None:
    path = tmp_path / "bucket.json"
    path.write_text('{"tasks": {"note_ner": {"weight": 2}}}')
    assert read_bucket(path).tasks["note_ner"].weight == 2


def test_the_edited_copy_counts_and_an_edit_in_place_is_refused(tmp_path: Path) -> None:
    result = found("note_ner", "query_intent")
    write_bucket(tmp_path / BUCKET, result)
    assert list(bucket_for(None, tmp_path, result).tasks) == ["note_ner", "query_intent"]
    copy = tmp_path / "mine.yaml"
    copy.write_text("tasks: {query_intent: {weight: 3}}")
    assert bucket_for(copy, tmp_path, result).tasks["query_intent"].weight == 3
    (tmp_path / BUCKET).write_text(copy.read_text())
    with pytest.raises(ConfigError, match="was edited in place"):
        bucket_for(None, tmp_path, result)


def test_an_empty_bucket_says_what_to_do(tmp_path: Path) -> None:
    assert write_bucket(tmp_path / BUCKET, found()) is None and not (tmp_path / BUCKET).exists()
    with pytest.raises(ConfigError, match="found no weak task"):
        bucket_for(None, tmp_path, found())
