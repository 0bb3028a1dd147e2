from __future__ import annotations

import pytest

from megatron_redone.tasks.base import Row
from megatron_redone.tasks.baselines import copy_options, empty_prediction, majority_answer
from megatron_redone.tasks.catalogue import TASKS
from tests.unit.tasks.sample_rows import SCORED_CASES, sample_rows


def taxonomy(candidates: list[str], answer: str, language: str = "en") -> Row:
    fields = {"title": "t", "content": "c", "candidates": candidates}
    return Row(f"{candidates}", "note_taxonomy_single", language, fields, answer)


def hashtags(candidates: list[str], answer: list[str]) -> Row:
    fields = {"title": "t", "content": "c", "candidates": candidates}
    return Row(f"{candidates}", "hashtag_multiple", "en", fields, answer)


@pytest.mark.parametrize(("name", "language"), SCORED_CASES)
def test_baselines_answer_every_task(name: str, language: str) -> None:
    task, rows = TASKS[name], sample_rows(name, language)
    majority = majority_answer(task, rows[:1])
    assert task.score([majority(rows[0])], rows[:1])[0].value == pytest.approx(1.0)
    empty = empty_prediction(task, rows[0])
    if task.answer_kind == "texts" and task.allow_empty_answer:
        assert task.parse(empty, rows[0]) == []
    else:
        assert empty == ""
    for row in rows:
        assert 0.0 <= task.score([empty_prediction(task, row)], [row])[0].value <= 1.0
        copied = copy_options(task, row)
        assert copied is None or task.parse(copied, row) is not None


def test_options_of_one_set_give_the_most_frequent_text_whatever_their_order() -> None:
    task = TASKS["note_taxonomy_single"]
    counted = [taxonomy(["a", "b", "c"], "b"), taxonomy(["c", "b", "a"], "c"), taxonomy(["b", "a", "c"], "b")]
    majority = majority_answer(task, counted)
    assert majority(taxonomy(["c", "a", "b"], "a")) == "b"
    assert majority(taxonomy(["x", "y"], "x")) == ""


def test_options_that_vary_give_the_most_frequent_position() -> None:
    task = TASKS["note_taxonomy_single"]
    counted = [taxonomy(["a", "b"], "b"), taxonomy(["c", "d"], "d"), taxonomy(["e", "f"], "e")]
    majority = majority_answer(task, counted)
    assert majority(taxonomy(["p", "q"], "p")) == "q"
    assert majority(taxonomy(["only"], "only")) == "only"


def test_sets_of_positions_and_levels() -> None:
    task = TASKS["hashtag_multiple"]
    counted = [
        hashtags(["a", "b", "c"], ["c", "a"]),
        hashtags(["d", "e", "f"], ["d", "f"]),
        hashtags(["a", "d"], ["a"]),
    ]
    assert majority_answer(task, counted)(hashtags(["x", "y", "z"], ["y"])) == "x, z"
    assert majority_answer(task, counted)(hashtags(["x", "y"], ["y"])) == "x"
    levels = TASKS["note_taxonomy_multiple"]
    row = sample_rows("note_taxonomy_multiple", "en")[0]
    other = Row("o", row.task, "en", {**row.fields, "candidates_primary": ["p", "q"]}, ["p", *row.answer[1:]])
    assert majority_answer(levels, [row, other])(other) == f"p | {row.answer[1]} | {row.answer[2]}"


def test_nothing_can_be_the_majority() -> None:
    task = TASKS["highlight_words"]

    def row(candidates: list[str], answer: list[str]) -> Row:
        return Row("r", "highlight_words", "en", {"comment": "c", "candidates": candidates}, answer)

    counted = [row(["a"], []), row(["b"], []), row(["c"], ["c"])]
    assert majority_answer(task, counted)(row(["z"], ["z"])) == "[]"
    assert copy_options(task, row(["z", "y"], [])) == "['z', 'y']"
    assert copy_options(task, row([], [])) == "[]"


def test_languages_are_counted_apart_and_order_does_not_matter() -> None:
    task = TASKS["gender_sensitive_appeal"]
    rows = [*sample_rows("gender_sensitive_appeal", "en"), *sample_rows("gender_sensitive_appeal", "zh")]
    first, second = majority_answer(task, rows), majority_answer(task, rows[::-1])
    assert [first(row) for row in rows] == [second(row) for row in rows]
    assert first(rows[0]) in ("Yes", "No")
    assert first(rows[2]) in ("是", "否")
    assert majority_answer(task, rows[:2])(rows[2]) == ""
