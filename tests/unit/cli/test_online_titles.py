from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from megatron_redone.cli.main import main
from tests.fake_completion_server import FakeServer

NOTES = Path(__file__).parents[3] / "examples" / "title_recreation" / "notes.jsonl"


@pytest.fixture
def server() -> Iterator[FakeServer]:
    fake = FakeServer(lambda messages: f"Score: {9 if '!' in messages[-1]['content'].split('</title>')[0] else 3}")
    yield fake
    fake.close()


def write_candidates(folder: Path) -> Path:
    path = folder / "candidates.jsonl"
    notes = [json.loads(line) for line in NOTES.read_text().splitlines()]
    lines = [{"id": note["id"], "outputs": [note["fields"]["title"], "Look at this 999!", ""]} for note in notes]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def run(folder: Path, candidates: Path, *more: str) -> int:
    return main(
        ["online", "titles", "--rows", str(NOTES), "--candidates", str(candidates), "--out", str(folder), *more]
    )


def test_a_judge_that_likes_noise_is_held_back_by_faithfulness(tmp_path: Path, server: FakeServer) -> None:
    arguments = ["--judge", f"url={server.url}", "--judge", "model=judge"]
    assert run(tmp_path / "out", write_candidates(tmp_path), *arguments) == 0
    result = json.loads((tmp_path / "out" / "titles.json").read_text())
    last = {point["weight"]: point for point in result["points"] if point["num_candidates"] == 3}
    assert last[1.0]["engagement"]["value"] == pytest.approx(8 / 9, abs=1e-3) and last[1.0]["distorted"] > 0.5
    assert last[0.0]["faithfulness"]["value"] == 1.0 and result["engagement_by"] == "judge, asked for 1 to 10"
    chosen = [json.loads(line) for line in (tmp_path / "out" / "titles.jsonl").read_text().splitlines()]
    assert len(chosen) == result["notes"] == 24 and {"title", "reward", "faithfulness"} <= chosen[0].keys()
    page = (tmp_path / "out" / "titles.html").read_text()
    assert "<svg" in page and "Look at this 999!" in page and "stand-in" not in page
    asked = len(server.requests)
    assert run(tmp_path / "out", tmp_path / "candidates.jsonl", *arguments) == 0
    assert len(server.requests) == asked  # replies are kept


def test_without_a_judge_the_page_says_that_a_stand_in_spoke(tmp_path: Path) -> None:
    assert run(tmp_path / "out", write_candidates(tmp_path), "--weight", "0.3") == 0
    assert "a stand-in (no reader and no judge was asked)" in (tmp_path / "out" / "titles.html").read_text()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"id": "note-01", "outputs": "x"}', "a list of texts"),
        ('{"id": "other", "outputs": []}', "is no row of title_rewrite"),
        ('{"id": "note-01", "outputs": []}\n{"id": "note-01", "outputs": []}', "stands twice"),
        ('{"id": "note-01", "outputs": []}', "23 notes have no line"),
        ("{", "not JSON"),
    ],
)
def test_broken_candidates_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, message: str
) -> None:
    path = tmp_path / "candidates.jsonl"
    path.write_text(text)
    assert run(tmp_path / "out", path) == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "out").exists()


def test_weights_outside_0_to_1_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path / "out", write_candidates(tmp_path), "--weights", "0,2") == 2
    assert "a weight lies in 0..1" in " ".join(capsys.readouterr().err.split())
