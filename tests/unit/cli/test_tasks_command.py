"""`redone tasks` as a user sees it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from megatron_redone.cli.main import main
from megatron_redone.tasks.catalogue import TASKS
from megatron_redone.tasks.examples import example_row


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    monkeypatch.setattr("megatron_redone.cli.main.reexec_with", lambda settings: None)
    monkeypatch.setattr("megatron_redone.cli.main.end_with_launcher", lambda environment: None)

    def call(*arguments: str) -> tuple[int, str, str]:
        code = main(["tasks", *arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


def write(path: Path, *rows) -> Path:  # type: ignore[no-untyped-def]
    path.write_text("".join(json.dumps(row.to_json(), ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def test_list_counts_what_it_shows(run) -> None:  # type: ignore[no-untyped-def]
    code, out, _ = run("list")
    assert code == 0
    assert all(name in out for name in TASKS)
    assert out.splitlines()[-2].split()[-2] == str(len(TASKS))
    code, out, _ = run("list", "--reward", "pattern", "--capability", "dialogue", "--language", "zh")
    assert "group_chat_role_play" in out and "instruction_following" not in out and "distress_level" not in out
    assert out.splitlines()[-2].split()[-2] == "4"


def test_unknown_filters_name_what_there_is(run) -> None:  # type: ignore[no-untyped-def]
    code, _, err = run("list", "--capability", "dialog")
    assert code == 2 and "did you mean 'dialogue'" in err
    assert run("list", "--reward", "exact")[0] == 2
    assert run("show", "note_security", "--language", "fr")[0] == 2


@pytest.mark.parametrize("name", ["note_security", "mrc_complex", "code_generation", "comment_translation_zh_en"])
def test_show_has_prompt_and_a_worked_example_in_both_languages(run, name: str) -> None:  # type: ignore[no-untyped-def]
    code, out, _ = run("show", name)
    assert code == 0
    for language in ("en", "zh"):
        row = example_row(name, language)
        assert TASKS[name].template_text(language) in out
        assert TASKS[name].render(row)[0]["content"] in out
        assert TASKS[name].target(row) in out
    unscored = out.count("score  none: no sandbox is safe") if name == "code_generation" else 0
    assert out.count("score  1.00 by ") + unscored == 2


def test_render_shows_prompt_gold_parsed_and_score(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    row = replace(example_row("note_security", "en"), rationale="a promise of gain")
    file = write(tmp_path / "rows.jsonl", row)
    code, out, _ = run("render", f"{file}:1", "--answer", "Pornography")
    assert code == 0
    assert TASKS[row.task].render(row)[0]["content"] in out
    assert "<think>\na promise of gain\n</think>\n\nIllegal or Policy Violations" in out
    assert "score  1.00 by exact_match" in " ".join(out.split(" ")) or "1.00 by exact_match" in out
    assert "0.00 by exact_match" in out


def test_a_bad_row_is_shown_with_all_that_is_wrong(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    row = example_row("note_security", "en")
    file = write(
        tmp_path / "rows.jsonl",
        replace(row, answer="Spam"),
        replace(row, fields={"title": "t", "labls": []}),
        replace(row, task="note_securty"),
        replace(row, fields={**row.fields, "title": "\x1b[31mred\u202e"}),
    )
    code, out, err = run("render", f"{file}:1")
    assert code == 2 and "Safety review" in out
    assert "gold answer 'Spam' is not among its 4 options" in err and "redone tasks show note_security" in err
    code, _, err = run("render", f"{file}:2")
    assert code == 2
    assert "unknown field 'labls'; did you mean 'labels'?" in err and "field 'content' is missing" in err
    code, _, err = run("render", f"{file}:3")
    assert code == 2 and "rows.jsonl:3: task 'note_securty'" in err and "did you mean 'note_security'" in err
    code, out, _ = run("render", f"{file}:4")
    assert code == 0 and "\x1b" not in out and "\\u001b[31mred\\u202e" in out
    assert run("render", str(file))[0] == 2


def test_no_gold_answer_is_said(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    file = write(tmp_path / "rows.jsonl", replace(example_row("instruction_following", "en"), answer=""))
    code, out, _ = run("render", f"{file}:1")
    assert code == 0 and "no gold answer" in out
