"""Properties that hold for every task of the catalogue in every language."""

from __future__ import annotations

import re
import string
import time
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from megatron_redone.curation.synthesize.config import TASK_NAMES
from megatron_redone.data.conversation import check_turns
from megatron_redone.scoring.pattern import num_words
from megatron_redone.scoring.set_f1 import SetF1
from megatron_redone.tasks.base import MAX_ANSWER_CHARACTERS, THOUGHT_REQUESTS
from megatron_redone.tasks.catalogue import TASKS
from tests.unit.tasks.sample_rows import CASES, SCORED_CASES, sample_rows

every_case = pytest.mark.parametrize(("name", "language"), CASES)
every_scored_case = pytest.mark.parametrize(("name", "language"), SCORED_CASES)
every_generated_case = pytest.mark.parametrize(("name", "language"), [case for case in CASES if case[0] in TASK_NAMES])

MALFORMED = [
    "", "   ", "\0", "\0\0Yes", "\ud800", "\udfff\ud800 A", "<think>", "<think>never closed",
    "A</think><think>B", "{", "[", "['a'", "[" * 5000, "{'a': [", "\\boxed{", "|", " | | ", ",", "，，", "：",
    "Category:", "Intent：", "Answer:", "意图：", "\u202e\u200b", "．", "- -", "'" * 999, "\n\n\n",
    "\x1c\u2028", "</think>", "😊" * 50,
]  # fmt: skip
HUGE = [
    "A" * 1_000_000, "[" * 1_000_000, "['" * 500_000, "9" * 1_000_000, "是，" * 300_000, "\\boxed{" * 140_000,
    "a b " * 12_000, "['a'," * 9_000, "1," * 20_000, "^" * 40_000, "(" * 49_000, "<think>" * 140_000,
]  # fmt: skip


def scorable(value: Any) -> bool:
    return isinstance(value, float) and 0.0 <= value <= 1.0


@every_case
def test_sample_rows_are_valid(name: str, language: str) -> None:
    for row in sample_rows(name, language):
        assert TASKS[name].validate(row) == []


@every_scored_case
def test_the_gold_answer_is_read_back_and_scores_1(name: str, language: str) -> None:
    task = TASKS[name]
    for row in sample_rows(name, language):
        assert task.parse(task.target(row), row) == task.gold(row)
        score = task.score([task.target(row)], [row])[0]
        assert score.value == pytest.approx(1.0)
        assert score.parsed
        assert task.scorer.aggregate([score]) == pytest.approx(1.0)


@every_case
def test_the_prompt_shows_every_field_and_nothing_hidden(name: str, language: str) -> None:
    task = TASKS[name]
    for row in sample_rows(name, language):
        messages = task.render(row)
        check_turns(messages, last="user")
        content = messages[-1]["content"]
        for field in task.fields:
            value = field.value(row)
            if field.shown:
                for text in value if field.kind == "texts" else [str(value)]:
                    assert text in content or text.replace("'", "\\'") in content
        assert not re.search(r"\{\w+\}|\{\{|\}\}", content), content
        assert ("<think>" in content) == (row.rationale is not None)
        other = None if row.rationale is None else "another thought"
        assert content == task.render(replace(row, answer=None, rationale=other))[-1]["content"]


@every_case
def test_templates_name_exactly_the_shown_fields(name: str, language: str) -> None:
    task = TASKS[name]
    named = {field for _, field, _, _ in string.Formatter().parse(task.templates[language]) if field}
    assert named == {field.name for field in task.fields if field.shown}


@every_generated_case
def test_prompts_are_short_for_a_model_trained_from_scratch(name: str, language: str) -> None:
    fixed = re.sub(r"\{\w+\}", " ", TASKS[name].templates[language])
    limit = 14 if language == "en" else 24  # Chinese is counted in characters, about two to a word
    assert num_words(fixed) <= limit, fixed


def test_prompts_open_with_a_cue_of_their_own() -> None:
    openings = {(name, language): re.split(r"[:：{，]", TASKS[name].templates[language])[0] for name, language in CASES}
    assert len(set(openings.values())) == len(openings)
    for case, opening in openings.items():
        assert not any(other.startswith(opening) for key, other in openings.items() if key != case), opening


@every_case
def test_a_prompt_asks_for_a_thought_exactly_where_the_answer_has_one(name: str, language: str) -> None:
    task = TASKS[name]
    plain, with_rationale = sample_rows(name, language)
    asked = task.render(with_rationale)[-1]["content"]
    unasked = task.render(replace(with_rationale, rationale=None))[-1]["content"]
    assert asked == f"{unasked}\n{THOUGHT_REQUESTS[language]}"
    assert THOUGHT_REQUESTS[language] not in task.render(plain)[-1]["content"]


@every_case
def test_a_rationale_stands_in_a_thought_before_the_answer(name: str, language: str) -> None:
    task = TASKS[name]
    plain, with_rationale = sample_rows(name, language)
    assert task.target(plain) == task.answer_text(plain)
    expected = f"<think>\nfirst this,\nthen that\n</think>\n\n{task.answer_text(with_rationale)}"
    assert task.target(with_rationale) == expected


@every_scored_case
def test_answers_count_only_after_a_closed_thought(name: str, language: str) -> None:
    task, row = TASKS[name], sample_rows(name, language)[0]
    gold = task.answer_text(row)
    for text in (
        f"<think>{gold}?\nno</think>{gold}",
        f"opened in the prompt</think>\n\n{gold}",
        f"  {gold}\n",
    ):
        assert task.score([text], [row])[0].value == pytest.approx(1.0)
    for text in (f"<think>{gold}", f"<think>a</think>{gold}<think>", f"{gold}<think>"):
        assert task.parse(text, row) is None
        score = task.score([text], [row])[0]
        assert (score.value, score.parsed) == (0.0, False)
        assert "not closed" in score.reason
    assert task.parse(f"<think>{gold}</think>", row) is None


@every_scored_case
def test_malformed_answers_never_raise_and_say_why_they_score_0(name: str, language: str) -> None:
    task, row = TASKS[name], sample_rows(name, language)[1]
    for text, score in zip(MALFORMED, task.score(MALFORMED, [row] * len(MALFORMED)), strict=True):
        assert scorable(score.value), text
        assert score.parsed is (task.parse(text, row) is not None), text
        if not score.parsed:
            assert score.value == 0.0, text
            assert score.reason.startswith("format failure: "), text
        if task.answer_format == "choice":
            assert score.value == 0.0, text


@every_scored_case
@settings(max_examples=8)
@given(text=st.text(max_size=60))
def test_no_text_raises(name: str, language: str, text: str) -> None:
    task, row = TASKS[name], sample_rows(name, language)[0]
    assert scorable(task.score([text], [row])[0].value)


ONE_OF_EACH_KIND = {(task.scorer.name, task.format_rule): name for name, task in TASKS.items()}.values()


@pytest.mark.parametrize("name", [name for name in ONE_OF_EACH_KIND if name in dict(SCORED_CASES)])
def test_huge_answers_are_scored_quickly(name: str) -> None:
    task, row = TASKS[name], sample_rows(name, "en")[1]
    start = time.process_time()
    scores = task.score(HUGE, [row] * len(HUGE))
    assert time.process_time() - start < 20.0
    assert all(scorable(score.value) for score in scores)
    assert f"at most {MAX_ANSWER_CHARACTERS}" in scores[0].reason


@every_scored_case
def test_unreadable_answers_lower_the_benchmark_value(name: str, language: str) -> None:
    task, rows = TASKS[name], sample_rows(name, language)
    texts = [task.target(row) for row in rows]
    whole = task.scorer.aggregate(task.score(texts, rows))
    half = task.scorer.aggregate(task.score([texts[0], ""], rows))
    assert half < whole == pytest.approx(1.0)


@every_scored_case
def test_a_choice_outside_the_options_earns_nothing(name: str, language: str) -> None:
    task, row = TASKS[name], sample_rows(name, language)[0]
    if task.answer_format != "choice":
        return
    gold = task.answer_text(row)
    for text in ("Zanzibar", "桑给巴尔", "Z", "99", f"{gold} because of the kayaks", f"{gold}\nor not"):
        score = task.score([text], [row])[0]
        assert score.value < 1.0, text
        assert score.value == 0.0 or isinstance(task.scorer, SetF1), text
        if not isinstance(task.scorer, SetF1) or task.options is None:
            assert task.parse(text, row) is None, text


@every_case
def test_rows_survive_json(name: str, language: str) -> None:
    for row in sample_rows(name, language):
        assert type(row).from_json(row.to_json(), "file:1") == row
