from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from megatron_redone.tasks.catalogue import TASKS
from tests.unit.tasks.sample_rows import CASES, sample_rows


def problems(task: str, answer: Any = None, drop: str = "", language: str = "en", **fields: Any) -> str:
    """The problems of a valid row after these changes."""
    row = sample_rows(task, language)[1]
    changed = {**row.fields, **fields}
    changed.pop(drop, None)
    row = replace(row, fields=changed, answer=row.answer if answer is None else answer)
    return "; ".join(TASKS[task].validate(row))


@pytest.mark.parametrize(("name", "language"), CASES)
def test_every_required_field_is_missed_and_type_checked(name: str, language: str) -> None:
    def given(value: Any) -> str:
        changes: dict[str, Any] = {field.name: value}
        return problems(name, language=language, **changes)

    for field in TASKS[name].fields:
        if field.default is None:
            assert f"field {field.name!r} is missing" in problems(name, drop=field.name, language=language)
        assert f"field {field.name!r} is" in given(1.5)
        assert f"field {field.name!r} is" in given(None)
        if field.kind == "objects":
            assert "expected a list of JSON objects" in given(["a"])
            assert "empty list" in given([])
            continue
        if field.kind == "texts":
            assert "expected a list of texts" in given(["a", 1])
            assert "expected a list of texts" in given("a")
            assert "empty item" in given(["a", " "])
        if not field.allow_empty and field.kind != "integer":
            assert "empty" in given([] if field.kind == "texts" else "  ")


@pytest.mark.parametrize(("name", "language"), CASES)
def test_golds_of_another_type_are_refused(name: str, language: str) -> None:
    for wrong in ({"a": 1}, 1.5, True, ["a", 2]):
        assert "answer is" in problems(name, answer=wrong, language=language)
    if TASKS[name].answer_kind == "text":
        assert "answer is empty" in problems(name, answer="  ", language=language)


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("note_taxonomy_single", "Cooking"),
        ("note_taxonomy_single", "outdoors"),
        ("note_taxonomy_multiple", ["Outdoors", "Outdoors", "Outdoors"]),
        ("query_classification", ["Outdoors-soup"]),
        ("query_intent", "Outdoors-soup"),
        ("note_security", "fine"),
        ("gender_sensitive_appeal", "Maybe"),
        ("hashtag_single", "Norvik"),
        ("hashtag_multiple", ["Outdoors", "Norvik"]),
        ("highlight_words", ["Norvik"]),
        ("query_note_relevance", 4),
        ("query_note_retrieval", "D"),
        ("click_ranking", ["A", "B", "D"]),
    ],
)
def test_golds_outside_the_options_are_refused(name: str, answer: Any) -> None:
    assert "is not among its" in problems(name, answer=answer)


@pytest.mark.parametrize("name", [name for name, task in TASKS.items() if task.answer_kind == "texts"])
def test_empty_lists_only_where_nothing_is_an_answer(name: str) -> None:
    found = problems(name, answer=[])
    assert (found == "") is TASKS[name].allow_empty_answer or found.startswith("gold ")


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        (
            "note_taxonomy_multiple",
            {"answer": ["Outdoors", "kayak repair"]},
            "answer has 2 items, expected 3",
        ),
        ("note_ner", {"answer": ["Oslo"]}, "does not stand in 'content'"),
        ("mrc_simple", {"answer": ["Never said."]}, "does not stand in 'sentences'"),
        ("note_ner", {"content": "a, b", "answer": ["a, b"]}, "cannot be read back"),
        ("post_view_search", {"answer": "two\nlines"}, "cannot be read back"),
        ("next_query", {"answer": " spaces around "}, "cannot be read back"),
        ("click_ranking", {"answer": ["A", "B"]}, "must rank all of A, B, C"),
        ("click_ranking", {"notes": ["n"] * 27}, "at most 26"),
        ("query_intent", {"intents": ["Outdoors-kayak repair", "buy"]}, "expected pairs"),
        ("emotional_companion", {"answer": "Cheer up!"}, "none of the 2 asked expressions"),
        ("emotional_companion", {"max_words": 0}, "expected an integer >= 1"),
        ("emotional_companion", {"max_words": True}, "expected an integer >= 1"),
        ("emotional_companion", {"answer": "抱抱"}, "0% of it is en"),
        ("title_recreation", {"keep": ["Oslo"]}, "stands neither in 'title' nor in 'content'"),
        ("title_recreation", {"answer": "a boat trip"}, "scores 0.00 by its own scorer: 2 of 2 facts"),
        ("title_recreation", {"max_words": 2}, "at most 2 allowed"),
        ("hashtag_single", {"title": " ", "content": ""}, "both empty"),
        ("next_query", {"answer": "a <think> b"}, "a thought goes to `rationale`"),
        ("next_query", {"answer": "half \ud83d"}, "half of a surrogate pair"),
        ("next_query", {"clicked": ["half \ud83d"]}, "half of a surrogate pair"),
        ("next_query", {"quries": ["a"]}, "unknown field 'quries'; did you mean 'queries'?"),
    ],
)
def test_other_bad_rows(name: str, changes: dict[str, Any], message: str) -> None:
    assert message in problems(name, **changes)


def test_task_language_and_rationale_are_checked() -> None:
    row = sample_rows("arithmetic", "en")[1]
    task = TASKS["arithmetic"]
    assert task.validate(replace(row, task="note_ner")) == ["task is 'note_ner', expected 'arithmetic'"]
    assert task.validate(replace(row, language="fr")) == ["language 'fr' is not one of en, zh"]
    assert "rationale is empty" in task.validate(replace(row, rationale=" "))[0]
    assert "rationale contains" in task.validate(replace(row, rationale="so</think>"))[0]


def test_all_problems_come_at_once() -> None:
    row = replace(sample_rows("next_query", "en")[0], fields={"query": "x"}, answer=3)
    assert len(TASKS["next_query"].validate(row)) == 4
