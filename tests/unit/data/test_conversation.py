from __future__ import annotations

import json
from typing import Any

import pytest

from megatron_redone.common.errors import DataError
from megatron_redone.data.conversation import (
    Message,
    check_turns,
    conversation_from_row,
    parse_messages,
    strip_thought,
)

USER = {"role": "user", "content": "hello"}
ASSISTANT = {"role": "assistant", "content": "hi"}
SYSTEM = {"role": "system", "content": "be brief"}


@pytest.mark.parametrize("turns", [[USER], [SYSTEM, USER], [USER, ASSISTANT], [SYSTEM, USER, ASSISTANT, USER]])
def test_good_conversations_come_back_unchanged(turns: list[dict[str, str]]) -> None:
    assert conversation_from_row({"messages": turns}, "rows.jsonl:3") == turns


def test_text_parts_are_joined_and_null_keys_ignored() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    value = [{"role": "user", "content": parts, "tool_calls": None}]
    assert parse_messages(value, "here") == [{"role": "user", "content": "ab"}]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("hello", "field messages: a str, expected a list"),
        ([], "field messages: no user message"),
        ([SYSTEM], "field messages: no user message"),
        ([USER, USER], r"messages\[1\].role: 'user' where 'assistant' has to speak"),
        ([ASSISTANT], r"messages\[0\].role: 'assistant' where 'user' has to speak"),
        ([USER, SYSTEM], r"messages\[1\].role: 'system' where 'assistant'"),
        ([{"role": "bot", "content": "x"}], r"messages\[0\].role: 'bot' is none of system, user, assistant"),
        ([{"role": ["user"], "content": "x"}], r"messages\[0\].role"),
        ([{"content": "x"}], r"messages\[0\].role is missing"),
        ([{"role": "user"}], r"messages\[0\].content is missing"),
        ([{"role": "user", "content": None}], r"messages\[0\].content: a NoneType"),
        ([{"role": "user", "content": "  \n"}], r"messages\[0\].content: blank"),
        ([{"role": "user", "content": [{"type": "image_url"}]}], r"content\[0\]: only text parts"),
        ([USER, {**ASSISTANT, "tool_calls": [1]}], r"messages\[1\].tool_calls: not supported"),
        (["x"], r"messages\[0\]: a str"),
        (
            json.loads('[{"role": "user", "content": "a\\ud83d"}]'),
            r"half of a surrogate pair \(U\+D83D\) at character 1",
        ),
    ],
)
def test_bad_conversations_name_line_and_field(value: Any, expected: str) -> None:
    with pytest.raises(DataError, match=expected) as caught:
        conversation_from_row({"messages": value}, "rows.jsonl:3")
    assert str(caught.value).startswith("rows.jsonl:3: ")


def test_missing_field_is_named() -> None:
    with pytest.raises(DataError, match=r"rows\.jsonl:9: field chat is missing"):
        conversation_from_row({}, "rows.jsonl:9", field="chat")


def test_last_speaker_is_checked() -> None:
    messages: list[Message] = [{"role": "user", "content": "a"}]
    check_turns(messages, last="user")
    with pytest.raises(DataError, match="the last message is of 'user', expected 'assistant'"):
        check_turns(messages, last="assistant")


@pytest.mark.parametrize(
    ("answer", "rest"),
    [
        ("<think>\nwhy\n</think>\n\nso", "so"),
        ("<think>a</think>b<think>c</think>d", "d"),
        ("no end</think> x", " x"),
        ("before<think>never closed", "before"),
        ("plain\n", "plain\n"),
    ],
)
def test_thoughts_are_stripped_from_earlier_answers(answer: str, rest: str) -> None:
    assert strip_thought(answer) == rest
