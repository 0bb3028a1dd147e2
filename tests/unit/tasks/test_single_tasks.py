"""What single tasks ask for, beyond what all share."""

from __future__ import annotations

import pytest

from megatron_redone.tasks.base import Row
from megatron_redone.tasks.catalogue import TASKS
from tests.unit.tasks.sample_rows import sample_rows


def value(task: str, language: str, text: str, index: int = 0) -> float:
    row = sample_rows(task, language)[index]
    return TASKS[task].score([text], [row])[0].value


@pytest.mark.parametrize(
    ("task", "language", "text", "expected"),
    [
        ("note_taxonomy_single", "en", "outdoors.", 1.0),
        ("note_taxonomy_single", "en", "Answer: Outdoors", 1.0),
        ("note_taxonomy_single", "zh", "答案：户外", 1.0),
        ("note_taxonomy_single", "en", "Outdoors, Pets", 0.0),
        ("note_taxonomy_single", "en", "Outdoors because of kayaks", 0.0),
        ("note_taxonomy_multiple", "en", "Outdoors | kayak repair | Outdoors", 1.0),
        ("note_taxonomy_multiple", "en", "Outdoors | sock knitting | Outdoors", 0.0),
        ("note_taxonomy_multiple", "en", "kayak repair | Outdoors | Outdoors", 0.0),
        ("query_classification", "en", "Category: Outdoors-kayak repair", 1.0),
        ("query_classification", "en", "Category: Outdoors-kayak repair, Pets-soup of the day", 2 / 3),
        ("query_classification", "en", "Outdoors-kayak repair", 0.0),
        ("query_classification", "zh", "类别：户外-修皮艇", 1.0),
        ("query_intent", "en", "Intent: Outdoors-kayak repair", 1.0),
        ("query_intent", "en", "Outdoors-kayak repair", 0.0),
        ("gender_sensitive_appeal", "en", "yes", 1.0),
        ("gender_sensitive_appeal", "zh", "是", 1.0),
        ("gender_sensitive_appeal", "zh", "Yes", 0.0),
        ("hashtag_multiple", "en", "Outdoors", 1.0),
        ("hashtag_multiple", "en", "Outdoors, Pets", 2 / 3),
        ("note_ner", "zh", "诺维克、干袜子", 2 / 3),
        ("highlight_words", "en", "[]", 1.0),
        ("highlight_words", "en", "none", 0.0),
        ("highlight_words", "en", "['kayak repair']", 0.0),
        ("query_note_relevance", "en", "-1", 1.0),
        ("query_note_relevance", "en", "0", 0.0),
        ("query_note_retrieval", "en", "a.", 1.0),
        ("query_note_retrieval", "en", "kayak repair", 0.0),
        ("click_ranking", "en", "A, B, C", 2 / 3),
        ("click_ranking", "zh", "B，A，C", 1.0),
        ("click_ranking", "en", "B, A", 0.0),
        ("click_ranking", "en", "B, B, C", 0.0),
        ("emotional_companion", "en", "just take care", 1.0),
        ("emotional_companion", "en", "just be brave", 0.0),
        ("emotional_companion", "en", "take care, take care, take care, take care, take care", 0.0),
        ("emotional_companion", "zh", "take care", 0.0),
        ("title_recreation", "en", "Norvik trip", 0.5),
        ("arithmetic", "en", "7 + 5 = 12", 1.0),
        ("arithmetic", "zh", "等于１２。", 1.0),
        ("arithmetic", "en", "12 or 13", 0.0),
        ("arithmetic", "en", r"\boxed{12.0}", 1.0),
    ],
)
def test_answers_earn_what_they_should(task: str, language: str, text: str, expected: float) -> None:
    assert value(task, language, text) == pytest.approx(expected)


def test_a_better_query_or_translation_earns_more() -> None:
    assert 1 > value("next_query", "en", "soup of a day") > value("next_query", "en", "kayak") > 0
    assert (
        1
        > value("note_translation_zh_en", "zh", "Dry socks are joy")
        > value("note_translation_zh_en", "zh", "socks")
        > 0
    )


def test_optional_fields_have_defaults() -> None:
    fields = {"persona": "a calm aunt", "message": "I lost my sock"}
    task = TASKS["emotional_companion"]
    row = Row("1", "emotional_companion", "en", fields, "We will find it.")
    assert task.validate(row) == []
    assert "at most 30 words" in task.render(row)[0]["content"]
    assert task.score(["word " * 31], [row])[0].value == 0.0
    search = Row("2", "post_view_search", "en", {"title": "Socks", "content": ""}, "dry socks")
    assert TASKS["post_view_search"].validate(search) == []


def test_yes_and_no_may_be_given_in_english_in_every_row() -> None:
    task = TASKS["question_document_match"]
    row = Row("1", "question_document_match", "zh", {"question": "在哪？", "document": "在诺维克。"}, "Yes")
    assert task.validate(row) == []
    assert task.target(row) == "是"
    assert task.score(["是", "否"], [row, row])[0].value == 1.0


def test_repeated_gold_items_count_once() -> None:
    fields = {"title": "t", "content": "c", "candidates": ["a", "b"]}
    row = Row("1", "hashtag_multiple", "en", fields, ["a", "b", "a"])
    assert TASKS["hashtag_multiple"].validate(row) == []
    assert TASKS["hashtag_multiple"].target(row) == "a, b"


def test_an_answer_may_span_several_sentences() -> None:
    fields = {"query": "q", "sentences": ["One.", "Two.", "Three."]}
    row = Row("1", "mrc_simple", "en", fields, ["One.\nTwo."])
    assert TASKS["mrc_simple"].validate(row) == []
    assert TASKS["mrc_simple"].target(row) == "['One.\\nTwo.']"


def test_golds_that_are_no_plain_number_are_boxed() -> None:
    row = Row("1", "arithmetic", "en", {"question": "half of 1/5?"}, r"\frac{1}{10}")
    task = TASKS["arithmetic"]
    assert task.validate(row) == []
    assert task.target(row) == r"\boxed{\frac{1}{10}}"
    assert task.score(["0.1", r"\boxed{\frac{2}{20}}"], [row, row])[1].value == 1.0
