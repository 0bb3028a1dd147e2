"""`redone curate` from a generated log to documents, as a user types it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from megatron_redone.cli.main import main
from megatron_redone.common.jsonl import read_jsonl

from .mini_recipe import process_restored


def curate(*arguments: object) -> int:
    with process_restored():
        return main(["curate", *map(str, arguments)])


def manifest(folder: Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads((folder / "manifest.json").read_text())
    return value


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("curated") / "logs"
    settings = ["num_sessions=120", "num_notes=100", "num_queries=8"]
    assert curate("interaction-logs", *settings, "seed=3", "--out", folder) == 0
    return folder


def test_logs_become_documents_and_documents_become_segments(
    logs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    documents, segments = tmp_path / "documents", tmp_path / "segments"
    assert curate("synthesize", f"logs={logs}", "single_share=0", "--out", documents) == 0
    found = [value for path in documents.glob("corpus*.jsonl") for _, value in read_jsonl(path)]
    counts = manifest(documents)["counts"]
    assert len(found) == counts["documents"] and counts["sessions"] == 120
    assert {one["form"] for one in found} == {"single_search", "consecutive_searches", "click_through"}
    assert {path.name for path in documents.iterdir()} == {
        "corpus-00000.jsonl", "corpus-click-through.jsonl", "manifest.json"
    }  # fmt: skip
    assert curate("general-text", f"texts={documents}", "max_tokens=300", "--out", segments) == 0
    joined = [value for path in segments.glob("corpus*.jsonl") for _, value in read_jsonl(path)]
    assert {one for value in joined for one in value["made_of"]} == {one["id"] for one in found}
    capsys.readouterr()
    assert curate("synthesize", f"logs={logs}", "single_share=0", "--out", documents) == 0
    assert "done before" in capsys.readouterr().err


def test_bad_lines_are_in_the_manifest_or_end_the_command(
    logs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = (logs / "sessions.jsonl").read_text().splitlines()
    lines[4] = lines[4].replace('"next_action"', '"next"')
    lines[5] = '"\\ud800"'
    (tmp_path / "sessions.jsonl").write_text("\n".join(lines))
    arguments = (f"logs={tmp_path / 'sessions.jsonl'}", f"notes={logs}")
    assert curate("synthesize", *arguments, "--out", tmp_path / "documents") == 0
    refused = manifest(tmp_path / "documents")["refused_rows"]
    assert [line.split(": ")[0].rpartition("/")[2] for line in refused] == ["sessions.jsonl:5", "sessions.jsonl:6"]
    assert curate("synthesize", *arguments, "max_refused_share=0", "--out", tmp_path / "strict") == 2
    assert "sessions.jsonl:5: next_action: Field required" in capsys.readouterr().err
    assert not (tmp_path / "strict").exists()
    assert curate("synthesize", arguments[0], "--out", tmp_path / "no_notes") == 2
    assert "name the notes" in capsys.readouterr().err
