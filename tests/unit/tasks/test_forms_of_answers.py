"""What tasks with their examples accept, refuse and pay for, form by form."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from megatron_redone.tasks.catalogue import TASKS
from megatron_redone.tasks.examples import example_row

BLOCKS = TASKS["mrc_complex"].answer_text(example_row("mrc_complex", "en"))


def value(task: str, language: str, text: str) -> float:
    row = example_row(task, language)
    return TASKS[task].score([text], [row])[0].value


@pytest.mark.parametrize(
    ("task", "language", "text", "expected"),
    [
        ("comment_moderation", "en", "Insult.", 1.0),
        ("comment_moderation", "en", "Answer: insult", 1.0),
        ("comment_moderation", "en", "insult, spam", 0.0),
        ("comment_moderation", "zh", "insult", 0.0),
        ("live_moderation", "en", "d, b", 1.0),
        ("live_moderation", "en", "B", 2 / 3),
        ("live_moderation", "en", "B, E", 0.0),
        ("live_moderation", "en", "none", 0.0),
        ("live_moderation", "zh", "B、D", 1.0),
        ("comment_emotion", "en", "Gratitude, joy", 1.0),
        ("comment_emotion", "en", "joy, hunger", 0.5),
        ("comment_emotion", "zh", "喜悦，感激", 1.0),
        ("comment_emotion", "zh", "无", 0.0),
        ("note_audience", "en", "none", 0.0),
        ("self_harm_escalation", "en", "2.", 1.0),
        ("self_harm_escalation", "en", "4", 0.0),
        ("self_harm_escalation", "en", "3", 0.0),
        ("note_topic_path", "en", "food > baking", 0.0),
        ("note_topic_path", "en", "Food > Baking > Bread", 1.0),
        ("query_segmentation", "en", "wide fit | hiking boots | for women", 1.0),
        ("query_segmentation", "en", "wide | fit hiking boots | for women", 1 / 3),
        ("query_segmentation", "en", "wide fit | boots", 0.0),
        ("query_segmentation", "zh", "宽脚｜女士｜登山鞋｜推荐", 1.0),
        ("query_spelling", "en", "How to prune a lemon tree", 1.0),
        ("query_spelling", "en", "how to prune a lemmon tree", 0.0),
        ("query_term_roles", "en", "red | Attribute\nBrisk|brand\nkettle | thing\nNorvik | place", 1.0),
        ("query_term_roles", "en", "red | attribute", 2 / 5),
        ("query_term_roles", "en", "red", 0.0),
        ("route_extraction", "en", "Pier 9\nlighthouse\nsalt baths", 4 / 6),
        ("date_normalisation", "en", "2025-03-14", 1.0),
        ("date_normalisation", "en", "14 March 2025", 0.0),
        ("date_normalisation", "en", "2025-13-14", 0.0),
        ("hashtag_generation", "en", "#Kayak #norvik #coastcamping", 1.0),
        ("hashtag_generation", "en", "kayak norvik", 0.0),
        ("hashtag_generation", "en", " ".join(f"#t{number}" for number in range(11)), 0.0),
        ("query_note_matching", "en", "q2: n3,n1\nq1: n2", 1.0),
        ("query_note_matching", "en", "Q1: N2\nQ2: N1", 4 / 5),
        ("query_note_matching", "en", "Q1: N2", 0.0),
        ("query_note_matching", "en", "Q1: N2\nQ2: N9", 0.0),
        ("query_note_matching", "en", "Q1: N2\nQ1: N1\nQ2: N3", 0.0),
        ("query_completion", "en", "sourdough starter smells", 1.0),
        ("query_completion", "en", "starter smells", 0.0),
        ("group_chat_role_play", "en", "Juno: haha, noodles tonight?", 0.0),
        ("group_chat_role_play", "en", "Fine means you cried over page two, noodles?", 0.0),
        ("group_chat_role_play", "en", "面条走起，今晚我请！", 0.0),
        ("group_chat_role_play", "en", "Noodles tonight?", 1.0),
        ("reply_suggestion", "en", "Cold!\nVery cold.\ncold", 0.0),
        ("reply_suggestion", "en", "Cold!\nVery cold.", 0.0),
        ("reply_suggestion", "en", "Cold!\nVery cold.\nNot at all.", 1.0),
        ("styled_comment", "en", "Great frisbee 😄😄", 0.0),
        ("styled_comment", "en", "Great loaf 😄", 0.0),
        ("companion_memory", "en", "none", 0.0),
        ("comment_translation_zh_en", "en", "I am dying, mine went flat too", 0.0),
        ("abbreviation_expansion", "en", "In my humble opinion", 1.0),
        ("cover_text", "en", "One kayak, no regrets", 0.0),
        ("cover_text", "en", "14 km, one kayak, no regrets, and many words more than allowed", 0.0),
        ("mathematics", "en", "14 / 4, so 3.5", 1.0),
        ("mathematics", "en", r"So \boxed{3.5}. Check: 4 * 3.5 = 14", 1.0),
        ("mathematics", "en", r"\boxed{4}", 0.0),
        ("multiple_choice", "en", "(a)", 1.0),
        ("multiple_choice", "en", "The sea rises twice a day.\nAnswer: A", 1.0),
        ("multiple_choice", "en", "Long words.\nAnswer: **A**.", 1.0),
        ("multiple_choice", "en", "Because.\n答案：\\boxed{A}", 1.0),
        ("multiple_choice", "en", "The sea rises.\nA", 0.0),
        ("multiple_choice", "en", "Answer: A\nOr maybe not.", 0.0),
        ("multiple_answers", "en", "C, A", 1.0),
        ("multiple_answers", "en", "A", 0.0),
        ("reading_comprehension", "en", "By fishermen.", 1.0),
        ("reading_comprehension", "en", "the fishermen", 2 / 3),
        ("instruction_following", "en", "- socks\n- rope\n- map", 1.0),
        ("instruction_following", "en", "- socks\n- rope", 0.0),
        ("mrc_complex", "en", BLOCKS, 1.0),
        ("mrc_complex", "en", BLOCKS + "\nDone.", 0.0),
        ("mrc_complex", "en", BLOCKS.replace("<AnswerList>", ""), 0.0),
        ("mrc_complex", "en", BLOCKS.replace('["Blue Ladle", "Pier 9"]', '["Pier 9"]'), 0.0),
        ("mrc_complex", "en", BLOCKS.replace('"Reason": "the', '"Why": "the'), 0.0),
        ("mrc_complex", "en", BLOCKS.replace("Pier 9", "Quay 77"), (1 + (1 + 1 / 7) / 2 + 1 / 2) / 3),
    ],
)
def test_answers_earn_what_they_should(task: str, language: str, text: str, expected: float) -> None:
    if "comment_translation" in task:
        assert value(task, language, text) == expected
    else:
        assert value(task, language, text) == pytest.approx(expected)


def problems(task: str, answer: Any = None, language: str = "en", **fields: Any) -> str:
    row = example_row(task, language)
    row = replace(row, fields={**row.fields, **fields}, answer=row.answer if answer is None else answer)
    return "; ".join(TASKS[task].validate(row))


@pytest.mark.parametrize(
    ("task", "changes", "message"),
    [
        ("off_platform_diversion", {"answer": ["call me"]}, "gold 'call me' does not stand in 'text'"),
        ("key_sentences", {"answer": ["E"]}, "not among its 4 options"),
        ("step_ordering", {"answer": ["A", "B"]}, "must rank all of A, B, C"),
        ("query_segmentation", {"answer": ["hiking", "boots"]}, "do not make up the query"),
        ("note_topic_path", {"paths": ["food > ", "x"], "answer": "x"}, "expected topics such as"),
        ("note_entities", {"answer": ["Mara"]}, "has not the 2 columns"),
        ("note_entities", {"answer": ["Mara | ship"]}, "gold value 'ship' is none of the labels"),
        ("note_entities", {"answer": ["Zoe | person"]}, "gold 'Zoe' does not stand in 'text'"),
        ("product_attributes", {"answer": ["weight | steel"]}, "attribute 'weight' is not among those asked"),
        ("query_note_matching", {"answer": ["Q1: N2"]}, "one line like 'Q1: N3, N7' for each query"),
        ("entity_linking", {"mention": "Flint"}, "field 'mention' stands not in 'text'"),
        ("comment_translation_en_zh", {"marks": ["#socks"]}, "mark '#socks' of 'marks' stands not in 'text'"),
        ("comment_translation_en_zh", {"answer": "我的也是"}, "3 of 3 terms are missing"),
        ("glossary_translation_en_zh", {"glossary": ["Ember stove"]}, "is not `term = rendering`"),
        ("comment_summary", {"keep": ["99 coins"]}, "stands in no comment"),
        ("instruction_following", {"constraints": [{"kind": "wrods"}]}, "did you mean 'words'"),
        ("instruction_following", {"answer": "none"}, "scores 0.00 by its own scorer"),
        ("code_generation", {"answer": "def tide(:"}, "answer is no Python: line 1"),
        ("code_generation", {"answer": "def ebb(): pass"}, "answer defines no 'tide'"),
        ("code_generation", {"tests": ["assert ("]}, "test 1 is no Python"),
        ("code_generation", {"test_setup": "import ("}, "field 'test_setup' is no Python"),
        ("mrc_complex", {"answer": "Pier 9"}, "answer is not the four blocks"),
        ("interest_inference", {"answer": ["sailing"]}, "not among its 3 options"),
    ],
)
def test_bad_rows_are_refused(task: str, changes: dict[str, Any], message: str) -> None:
    assert message in problems(task, **changes)


@pytest.mark.parametrize("task", ["live_moderation", "comment_emotion", "note_entities", "companion_memory"])
def test_none_is_an_answer_where_there_may_be_nothing(task: str) -> None:
    row = replace(example_row(task, "zh"), answer=[])
    assert TASKS[task].validate(row) == []
    assert TASKS[task].target(row) == "无"
    assert TASKS[task].score(["none"], [row])[0].value == 1.0


def test_a_row_of_instructions_may_have_no_gold_answer() -> None:
    task = TASKS["instruction_following"]
    row = replace(example_row("instruction_following", "en"), answer="")
    assert task.validate(row) == []
    assert task.score(["- a\n- b\n- c"], [row])[0].value == 1.0
    assert "has a rationale" in task.validate(replace(row, rationale="so"))[0]
    assert (
        "answer is empty"
        in TASKS["query_spelling"].validate(replace(example_row("query_spelling", "en"), answer=""))[0]
    )


def test_a_program_is_read_and_scored_in_the_sandbox(sandbox_backend: str) -> None:
    task, row = TASKS["code_generation"], example_row("code_generation", "en")
    assert task.parse("Here:\n```python\ndef tide(h):\n    return h < 6\n```", row) == "def tide(h):\n    return h < 6"
    assert task.parse("def tide(h): return 1", row) == "def tide(h): return 1"
    assert task.parse("```python\ndef ebb(h): return 1\n```", row) is None
    assert task.parse("def tide(h) return", row) is None
    wrong = "```python\ndef tide(h): return True\n```"
    assert [score.value for score in task.score([task.target(row), wrong], [row, row])] == [1.0, 0.0]
    empty = task.score(["", "no program"], [row, row])
    assert [(score.value, score.parsed) for score in empty] == [(0.0, False), (0.0, False)]
    assert "expected a Python program" in empty[1].reason


def test_optional_parts_leave_no_heading_behind() -> None:
    task, row = TASKS["harmful_content_detection"], example_row("harmful_content_detection", "en")
    whole = task.render(row)[0]["content"]
    assert "\nText in images: order now\nComments:\nis this safe?\nLabels: " in whole
    bare = replace(row, fields={"title": "t", "content": "c"})
    assert "Note: c\nLabels: " in task.render(bare)[0]["content"]
