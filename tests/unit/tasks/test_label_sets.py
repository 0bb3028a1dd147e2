"""Label sets that the papers give, and what holds for every label set and example."""

from __future__ import annotations

import pytest

from megatron_redone.tasks.catalogue import TASKS
from megatron_redone.tasks.examples import FOLDER, examples
from megatron_redone.tasks.fields import Field
from megatron_redone.tasks.row import Row

LABEL_FIELDS = [
    (name, field) for name, task in TASKS.items() for field in task.fields if isinstance(field.default, dict)
]


def default(task: str, field: str, language: str) -> tuple[str, ...]:
    (found,) = [item for item in TASKS[task].fields if item.name == field]
    return tuple(found.value(Row("r", task, language, {}, "")))


def test_security_has_the_four_classes_of_the_paper() -> None:
    assert default("note_security", "labels", "en") == (
        "Political Sensitivity",
        "Pornography",
        "No Violation",
        "Illegal or Policy Violations",
    )


def test_intents_are_three_granularities_of_eleven_categories() -> None:
    intents = default("query_intent", "intents", "en")
    assert len(set(intents)) == 33
    pairs = {tuple(intent.rsplit("-", 1)) for intent in intents}
    assert {granularity for granularity, _ in pairs} == {"List-type", "Entity-type", "Single-type"}
    assert len({category for _, category in pairs}) == 11
    assert "Single-type-Knowledge" in intents and "Entity-type-Others" in intents
    assert len(set(default("query_intent", "intents", "zh"))) == 33


def test_relevance_has_the_five_levels() -> None:
    assert getattr(TASKS["query_note_relevance"].scorer, "levels") == (-1, 0, 1, 2, 3)  # noqa: B009


@pytest.mark.parametrize(("name", "field"), LABEL_FIELDS)
def test_label_sets_are_the_same_in_both_languages_and_can_be_listed(name: str, field: Field) -> None:
    english, chinese = field.default["en"], field.default["zh"]
    assert len(english) == len(chinese) == len(set(english)) == len(set(chinese)) > 1
    assert not any(mark in label for label in (*english, *chinese) for mark in ",，、|\n")
    assert not {"none", "无"} & {label.casefold() for label in (*english, *chinese)}


def test_labels_of_the_row_replace_the_default() -> None:
    task = TASKS["comment_sentiment"]
    row = Row("r", task.name, "en", {"comment": "fine", "labels": ["up", "down"]}, "up")
    assert task.validate(row) == []
    assert "Labels: up, down" in task.render(row)[0]["content"]
    assert task.parse("positive", row) is None
    assert "not among its 4 options" in task.validate(Row("r", task.name, "en", {"comment": "fine"}, "up"))[0]


def test_more_than_75_tasks_without_the_second_direction_of_a_translation() -> None:
    distinct = {name.replace("_en_zh", "").replace("_zh_en", "") for name in TASKS}
    assert len(distinct) > 100
    assert {task.reward_kind for task in TASKS.values()} == {"exact_match", "metric", "pattern", "sandbox"}
    sns = [name for name in distinct if name not in TASKS or TASKS[name].capability != "general"]
    assert len(sns) > 75


def test_every_task_has_one_example_in_each_language_and_no_other() -> None:
    assert set(examples()) == {(name, code) for name, task in TASKS.items() for code in task.languages}
    assert {path.stem for path in FOLDER.glob("*.jsonl")} == {task.capability for task in TASKS.values()}
    for (name, language), row in examples().items():
        assert TASKS[name].validate(row) == [], (name, language)
        assert row.id == f"{name}-{language}"
    assert sum(path.read_text(encoding="utf-8").count("\n") for path in FOLDER.glob("*.jsonl")) == len(examples())


def test_prompts_ask_for_what_is_scored_in_their_own_language() -> None:
    for name, task in TASKS.items():
        assert any("\u4e00" <= character <= "\u9fff" for character in task.templates["zh"]), name
        english = task.templates["en"].replace("（", "(")
        assert not any("\u4e00" <= character <= "\u9fff" for character in english), name


def test_no_two_tasks_ask_the_same() -> None:
    asked = [(task.templates["en"], task.templates["zh"]) for task in TASKS.values()]
    assert len({english for english, _ in asked}) == len({chinese for _, chinese in asked}) == len(TASKS)
