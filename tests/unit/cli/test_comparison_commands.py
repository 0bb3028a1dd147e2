"""The commands as a user types them: exit codes, files, and what bad input says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from megatron_redone.cli.main import main
from megatron_redone.common.seeding import numpy_rng

QUESTION = "which of the two old harbours on the northern shore lies nearer to the tall white lighthouse"


def lines(path: Path, rows: list[dict[str, object]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.mark.parametrize(("limit", "code"), [([], 0), (["--fail-above", "0.5"], 0), (["--fail-above", "0.4"], 1)])
def test_contamination_ends_with_the_asked_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], limit: list[str], code: int
) -> None:
    training = lines(tmp_path / "train.jsonl", [{"text": f"so {QUESTION.upper()} then"}])
    other = QUESTION.replace("harbours", "castles").replace("shore", "hill").replace("white", "grey")
    bench = lines(tmp_path / "bench.jsonl", [{"q": QUESTION}, {"q": other}])
    arguments = ["contamination", "--training", str(training), "--benchmark", f"quiz={bench}"]
    assert main([*arguments, "--out", str(tmp_path / "out"), *limit]) == code
    assert ("more than --fail-above 0.4" in capsys.readouterr().out) == (code == 1)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "contamination.json", "contamination.html", "items.jsonl",
    }  # fmt: skip


@pytest.mark.parametrize("benchmark", ["quiz", "=x", "quiz="])
def test_a_benchmark_needs_a_name_and_a_path(tmp_path: Path, benchmark: str) -> None:
    training = lines(tmp_path / "train.jsonl", [{"text": "a"}])
    arguments = ["contamination", "--training", str(training), "--benchmark", benchmark]
    assert main([*arguments, "--out", str(tmp_path / "out")]) == 2


def harmful_rows(count: int = 200, with_scores: bool = True) -> list[dict[str, object]]:
    draw = numpy_rng("rows")
    rows: list[dict[str, object]] = []
    for number in range(count):
        harmful = bool(draw.random() < 0.4)
        row: dict[str, object] = {"id": f"n{number}", "harmful": harmful, "exposures": int(draw.integers(1, 50))}
        score = float(draw.random() * 0.6 + 0.4 * harmful)
        rows.append(row | ({"score": score} if with_scores else {}))
    return rows


def test_harmful_content_by_the_scores_of_a_file(tmp_path: Path) -> None:
    data = lines(tmp_path / "notes.jsonl", harmful_rows())
    assert main(["online", "harmful", "--data", str(data), "--out", str(tmp_path / "a")]) == 0
    result = json.loads((tmp_path / "a" / "online.json").read_text())
    assert result["measures"]["exposure_rate_after"]["value"] < result["measures"]["exposure_rate_before"]["value"]
    # the same scores in a file of their own, through `evaluate`
    bare = lines(tmp_path / "bare.jsonl", harmful_rows(with_scores=False))
    rows = [{"id": row["id"], "score": row["score"]} for row in harmful_rows()]
    scores = lines(tmp_path / "scores.jsonl", rows)
    arguments = ["evaluate", "--benchmark", "online-harmful", "--data", str(bare), "--predictions", str(scores)]
    assert main([*arguments, "--out", str(tmp_path / "b")]) == 0
    assert json.loads((tmp_path / "b" / "online.json").read_text()) == result


def test_bad_rows_and_missing_scores_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    without = lines(tmp_path / "bare.jsonl", harmful_rows(20, with_scores=False))
    assert main(["online", "harmful", "--data", str(without), "--out", str(tmp_path / "a")]) == 2
    assert "20 notes have no score, first 'n0'" in capsys.readouterr().err
    broken = lines(tmp_path / "broken.jsonl", [*harmful_rows(20), {"id": "n3", "harmful": True, "score": 1.5}])
    with broken.open("ab") as file:
        file.write(b"\xff\xfe\n{\n")
    assert main(["online", "harmful", "--data", str(broken), "--out", str(tmp_path / "a")]) == 2
    said = capsys.readouterr().err
    assert "3 of 23 lines refused" in said and "broken.jsonl:21: score" in said and "broken.jsonl:22" in said
    for choose in ("best", "precision", "recall=2", "precision=x", "f1=0.5"):
        assert main(["online", "harmful", "--data", str(broken), "--out", "x", "--choose", choose]) == 2


def test_search_on_generated_logs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    logs = tmp_path / "logs"
    settings = ["num_sessions=120", "num_notes=60", "num_queries=10", "ranking_noise=2.0"]
    assert main(["curate", "interaction-logs", *settings, "--out", str(logs)]) == 0
    sessions = [json.loads(line) for line in (logs / "sessions.jsonl").read_text(encoding="utf-8").splitlines()]
    search = sessions[0]["searches"][0]
    rankings = lines(tmp_path / "new.jsonl", [{"query": search["query"], "ranking": search["shown"][::-1]}])
    queries = lines(tmp_path / "queries.jsonl", [{"note": "n", "query": search["query"]}, {"query": "never asked"}])
    arguments = ["--logs", str(logs), "--rankings", str(rankings), "--queries", str(queries)]
    assert main(["online", "search", *arguments, "--out", str(tmp_path / "a")]) == 0
    result = json.loads((tmp_path / "a" / "online.json").read_text())
    assert result["coverage"]["logged_queries"] == 1 and result["coverage"]["rankings_of_logged_queries"] == 1
    assert result["click_rate_by_place"][0] > result["click_rate_by_place"][-1]
    assert (tmp_path / "a" / "online.html").read_text(encoding="utf-8").count("<svg") == 1
    unknown = lines(tmp_path / "unknown.jsonl", [{"query": "never asked", "ranking": ["x"]}])
    arguments = ["--logs", str(logs), "--rankings", str(unknown), "--out", str(tmp_path / "b")]
    assert main(["online", "search", *arguments]) == 2
    assert "no ranking belongs to a query of the logs" in capsys.readouterr().err


def test_compare_tells_what_it_cannot_compare(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", str(tmp_path / "a"), str(tmp_path / "b"), "--out", str(tmp_path / "c")]) == 2
    assert "no results.json there" in capsys.readouterr().err
    assert main(["compare", str(tmp_path), "--missing", "drop", "--out", str(tmp_path / "c")]) == 2
    assert not (tmp_path / "c").exists()
