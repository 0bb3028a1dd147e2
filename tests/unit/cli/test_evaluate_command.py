"""`redone evaluate` as a user sees it."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from megatron_redone.cli.main import main
from megatron_redone.common.logging import CONSOLE
from megatron_redone.data.tokenizer import train_sentencepiece
from megatron_redone.evaluation.results import read_item_scores, read_results
from megatron_redone.models.presets import get_preset
from megatron_redone.parallel.context import ParallelContext
from tools.make_tiny_checkpoint import write_tiny_checkpoint

Run = Callable[..., tuple[int, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    monkeypatch.setattr("megatron_redone.cli.main.reexec_with", lambda settings: None)
    monkeypatch.setattr("megatron_redone.cli.main.end_with_launcher", lambda environment: None)
    monkeypatch.setattr(CONSOLE, "width", 10_000)
    logger = logging.getLogger("redone")
    before = list(logger.handlers), logger.level, logger.propagate

    def call(*arguments: object) -> tuple[int, str]:
        code = main(["evaluate", *map(str, arguments)])
        captured = capsys.readouterr()
        return code, " ".join((captured.out + captured.err).split())

    yield call
    logger.handlers[:], logger.level, logger.propagate = before


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    entities = [{"question": "find drinks", "content": f"tea {i} and milk", "answer": "tea, milk"} for i in range(6)]
    genders = [{"content": f"note {i}", "answer": "Yes" if i % 2 else "No"} for i in range(4)]
    (folder / "Note-NER.json").write_text(json.dumps(entities))
    (folder / "Note-Gender.json").write_text(json.dumps(genders))
    return folder


def predictions(path: Path, *rows: tuple[str, int, str]) -> Path:
    path.write_text("".join(json.dumps({"file": f, "index": i, "output": o}) + "\n" for f, i, o in rows))
    return path


def test_a_file_of_answers_is_scored_written_and_shown(run: Run, data: Path, tmp_path: Path) -> None:
    rows = [("Note-NER.json", i, "milk, tea") for i in range(5)] + [("Note-Gender.json", i, "Yes.") for i in range(4)]
    given, out = predictions(tmp_path / "p.jsonl", *rows), tmp_path / "out"
    code, said = run("--benchmark", "sns-bench", "--data", data, "--predictions", given, "--out", out)
    assert code == 0
    result = read_results(out)
    assert result.tasks["Note-Gender.json"]["score"] == 50.0
    assert result.tasks["Note-NER.json"]["score"] == pytest.approx(90.91)
    assert result.score == pytest.approx((50 + 90.91) / 2) and set(result.groups) == {"Note-NER", "Note-Gender"}
    assert result.settings["counts"]["rows_without_an_answer"] == {"Note-NER.json": 1}
    assert "scored as empty answers: Note-NER.json 1 of 6" in said and "Note-CHLW.json" in said
    assert len(list(read_item_scores(out))) == 10
    assert "90.91" in (out / "evaluation.html").read_text(encoding="utf-8")
    failures = [json.loads(line) for line in (out / "failures.jsonl").read_text().splitlines()]
    assert {(row["file"], row["index"]) for row in failures} == {
        ("Note-NER.json", 5),
        ("Note-Gender.json", 0),
        ("Note-Gender.json", 2),
    }


def test_only_some_files_and_rows(run: Run, data: Path, tmp_path: Path) -> None:
    rows = [("Note-NER.json", i, "tea, milk") for i in range(6)] + [("Note-Gender.json", 0, "No")]
    given, out = predictions(tmp_path / "p.jsonl", *rows), tmp_path / "out"
    options = ("--predictions", given, "--out", out, "--file", "Note-NER.json", "--limit", 2)
    code, said = run("--benchmark", "sns-bench", "--data", data, *options)
    assert code == 0 and "Only the first rows are scored" in said
    result = read_results(out)
    assert list(result.tasks) == ["Note-NER.json"] and result.tasks["Note-NER.json"]["num_rows"] == 2
    assert result.settings["counts"]["answers_not_scored"] == 5 and result.settings["limit"] == 2


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--benchmark", "sns"), "--benchmark sns: unknown; give one of sns-bench"),
        ((), "give either --model"),
        (("--model", "m", "--predictions", "p"), "give either --model"),
        (("--predictions", "absent.jsonl"), "absent.jsonl: no such file"),
        (("--model", "absent"), "absent: no such folder"),
        (("--model", "absent", "--engine", "vllm"), "--engine vllm"),
        (("--model", "absent", "--engine", "x"), "--engine x: unknown"),
        (("--predictions", "absent.jsonl", "--file", "x.json"), "--file x.json"),
        (("--predictions", "absent.jsonl", "--prompt-set", "absent.yaml"), "--prompt-set absent.yaml: no such file"),
    ],
)
def test_bad_input_ends_with_code_2_and_says_why(
    run: Run, data: Path, tmp_path: Path, options: tuple[str, ...], said: str
) -> None:
    given = ("--benchmark", "sns-bench", *options) if "--benchmark" not in options else options
    code, text = run(*given, "--data", data, "--out", tmp_path / "out")
    assert code == 2 and said in text
    assert not (tmp_path / "out").exists()


def test_an_embedder_that_was_asked_for_must_be_there(run: Run, data: Path, tmp_path: Path) -> None:
    (data / "Note-QueryGen.json").write_text(json.dumps([{"content": "c", "answer": "soup recipe"}]))
    given, out = predictions(tmp_path / "p.jsonl", ("Note-QueryGen.json", 0, "soup")), tmp_path / "out"
    base = ("--benchmark", "sns-bench", "--data", data, "--predictions", given, "--out", out)
    code, said = run(*base, "--embedder", tmp_path / "no" / "model")
    assert code == 2 and "--embedder none" in said
    code, said = run(*base, "--embedder", "none")
    assert code == 0 and "QueryGen's score is its ANLS alone" in said
    assert read_results(out).tasks["Note-QueryGen.json"]["score"] == pytest.approx(100 * 4 / 11, abs=1e-3)


def test_translations(run: Run, tmp_path: Path) -> None:
    row = {"en": "So cute", "zh": "太可爱了", "source": "comment", "src_lang": "zh", "dst_lang": "en"}
    (tmp_path / "RedTrans-Bench.json").write_text(json.dumps([row, {**row, "src_lang": "en", "dst_lang": "zh"}]))
    given = predictions(tmp_path / "p.jsonl", ("RedTrans-Bench.json", 0, "So cute"), ("RedTrans-Bench.json", 1, ""))
    base = ("--benchmark", "sns-transbench", "--data", tmp_path, "--predictions", given, "--out", tmp_path / "out")
    assert run(*base)[0] == 0
    result = read_results(tmp_path / "out")
    assert result.score == pytest.approx(50.0, abs=1e-3) and list(result.tasks) == ["RedTrans-Bench.json"]


def test_a_model_answers_in_this_process(
    run: Run, data: Path, tmp_path: Path, parallel_context: ParallelContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("megatron_redone.parallel.context.shutdown", lambda: None)  # other tests need the groups
    monkeypatch.setattr("megatron_redone.parallel.context.build_context", lambda config: parallel_context)
    tokenizer = train_sentencepiece(
        [f"some tea {i} and milk, note: yes no" for i in range(300)], tmp_path / "t", 300, 0
    )
    shape = get_preset("qwen3-tiny").model_copy(update={"vocab_size": tokenizer.vocab_size})
    write_tiny_checkpoint(shape, tmp_path / "model")
    tokenizer.save(tmp_path / "model")
    base = ("--benchmark", "sns-bench", "--data", data, "--model", tmp_path / "model", "--out", tmp_path / "out")
    options = (*base, "--max-new-tokens", 3, "--batch-size", 4)
    assert run(*options, "--limit", 2)[0] == 0
    first = (tmp_path / "out" / "predictions.jsonl").read_text()
    assert len(first.splitlines()) == 4
    assert run(*options)[0] == 0  # the same folder goes on with the rows that were left out
    whole = (tmp_path / "out" / "predictions.jsonl").read_text()
    assert whole.startswith(first) and len(whole.splitlines()) == 10
    result = read_results(tmp_path / "out")
    assert result.settings["counts"]["rows_scored"] == 10 and result.settings["engine"] == "megatron"
    assert result.settings["counts"]["answers_out_of_room"] > 0
    code, said = run(*base, "--max-new-tokens", 4)
    assert code == 2 and "answers that differ in settings" in said
    given = ("--predictions", tmp_path / "out" / "predictions.jsonl", "--out", tmp_path / "again")
    assert run("--benchmark", "sns-bench", "--data", data, *given)[0] == 0
    assert read_results(tmp_path / "again").tasks == result.tasks
