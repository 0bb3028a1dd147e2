from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, strategies as st

from megatron_redone.common.errors import DataError
from megatron_redone.curation.conversations import TrainingConversation
from megatron_redone.curation.sft.config import InputFormat
from megatron_redone.curation.sft.formats import Defaults, detect, language_of, read_conversation
from tests.scripted_generation import sum_row

DEFAULTS = Defaults("file#0", "file", "general", "file")
texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(lambda text: bool(text.strip()))
pairs = st.lists(st.tuples(texts, texts), min_size=1, max_size=4)


def read(value: dict[str, Any], expected: InputFormat = "auto") -> TrainingConversation:
    return read_conversation(value, "file:1", DEFAULTS, expected)


@given(pairs=pairs, system=st.none() | texts)
def test_the_three_formats_say_the_same(pairs: list[tuple[str, str]], system: str | None) -> None:
    opening = [] if system is None else [{"role": "system", "content": system}]
    turns = [
        {"role": role, "content": text}
        for pair in pairs
        for role, text in zip(("user", "assistant"), pair, strict=True)
    ]
    openai = {"messages": opening + turns}
    names = {"system": "system", "user": "human", "assistant": "gpt"}
    sharegpt = {"conversations": [{"from": names[t["role"]], "value": t["content"]} for t in opening + turns]}
    alpaca = {"instruction": pairs[-1][0], "output": pairs[-1][1], "history": [list(pair) for pair in pairs[:-1]]}
    if system is not None:
        alpaca["system"] = system
    found = [read(value) for value in (openai, sharegpt, alpaca)]
    assert all(one.messages == openai["messages"] for one in found)
    assert [detect(value, "") for value in (openai, sharegpt, alpaca)] == ["openai", "sharegpt", "alpaca"]
    again = read(found[0].to_json())
    assert again == found[0]


def test_alpaca_joins_its_input_and_sharegpt_takes_its_system() -> None:
    value = {"instruction": "Name it.", "input": "a cat", "output": "Cat."}
    assert [m["content"] for m in read(value).messages] == ["Name it.\na cat", "Cat."]
    turns = [{"from": "user", "value": "q"}, {"from": "model", "value": "a"}]
    assert read({"conversations": turns, "system": "Be brief."}).messages[0] == {
        "role": "system",
        "content": "Be brief.",
    }


def test_a_row_says_what_it_is_and_defaults_fill_the_rest() -> None:
    plain = {"messages": [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "hi"}]}
    found = read(plain)
    assert (found.id, found.task, found.capability, found.source, found.origin) == (
        "file#0", "file", "general", "file", "given",
    )  # fmt: skip
    assert (found.language, found.weight, found.loss_weight) == ("en", 1.0, 1.0)
    own = {"id": 7, "task": "arithmetic", "language": "fr", "source": "s", "weight": 2, "loss_weight": 0.5}
    found = read(plain | own)
    assert (found.id, found.task, found.capability, found.language) == ("7", "arithmetic", "general", "fr")
    assert (found.source, found.weight, found.loss_weight) == ("s", 2.0, 0.5)


def test_task_rows_are_rendered_and_checked() -> None:
    row = sum_row(3).to_json()
    found = read(row)
    assert (found.task, found.origin, found.messages[-1]["content"]) == ("arithmetic", "gold", "4")
    with pytest.raises(DataError, match="file:1: task 'arithmetik' is not in the catalogue"):
        read(row | {"task": "arithmetik"})
    with pytest.raises(DataError, match="file:1: language 'fr'"):
        read(row | {"language": "fr"})


USER, ANSWER = {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}
BAD: list[tuple[dict[str, Any], str]] = [
    ({"messages": [ANSWER, USER]}, "where 'user' has to speak"),
    ({"messages": [USER, USER, ANSWER]}, "where 'assistant' has to speak"),
    ({"messages": [USER]}, "the last message is of 'user'"),
    ({"messages": [USER, ANSWER, USER]}, "the last message is of 'user'"),
    ({"messages": []}, "no user message"),
    ({"messages": [USER, {"role": "assistant", "content": "  "}]}, "blank"),
    ({"messages": [USER, {"role": "tool", "content": "x"}]}, "'tool' is none of"),
    ({"messages": [USER, {"role": "assistant", "content": 3}]}, "a int, expected a string"),
    ({"messages": "q"}, "expected a list of messages"),
    ({"messages": [USER, ANSWER | {"content": "\ud83d"}]}, "half of a surrogate pair"),
    ({"conversations": [{"from": "human", "value": "q"}, {"from": "observation", "value": "x"}]}, "'observation'"),
    ({"conversations": [{"from": "gpt", "value": "a"}]}, "where 'user' has to speak"),
    ({"conversations": [{"role": "user"}]}, "expected an object with from and value"),
    ({"conversations": {"from": "human"}}, "conversations is dict"),
    ({"instruction": "", "output": "a"}, "instruction is blank"),
    ({"instruction": "q", "output": ["a"]}, "output is list"),
    ({"instruction": "q", "output": "a", "history": [["only one"]]}, "history must be a list of"),
    ({"instruction": "q", "output": "a", "input": 3}, "input is int"),
    ({"instruction": "q"}, "of no known format"),
    ({"messages": [USER, ANSWER], "conversations": []}, "has the keys of openai and sharegpt"),
    ({"conversations": [], "chosen": {}, "rejected": {"value": "x"}}, "preference pair"),
    ({"messages": [USER, ANSWER], "label": False}, "rejected one"),
    ({"messages": [USER, ANSWER], "tools": "[...]"}, "tool calls"),
    ({"messages": [USER, ANSWER], "weight": 0}, "weight=0 must be"),
    ({"messages": [USER, ANSWER], "loss_weight": "1"}, "loss_weight='1' must be"),
    ({"messages": [USER, ANSWER], "task": 3}, "task is int"),
]


@pytest.mark.parametrize(("value", "rule"), BAD)
def test_bad_rows_are_refused_with_their_place_and_rule(value: dict[str, Any], rule: str) -> None:
    with pytest.raises(DataError, match=rule) as error:
        read(value)
    assert str(error.value).startswith("file:1: ")


def test_a_named_format_is_kept() -> None:
    both = {"messages": [USER, ANSWER], "instruction": "i", "output": "o"}
    assert read(both, "openai").messages[0]["content"] == "q"
    assert read(both, "alpaca").messages[0]["content"] == "i"
    with pytest.raises(DataError, match="messages is missing"):
        read({"instruction": "i", "output": "o"}, "openai")


@pytest.mark.parametrize(
    ("text", "language"),
    [("今天 ok", "zh"), ("hello world", "fr"), ("これはペンです", "ja"), ("안녕하세요", "ko"), ("123 !", "fr")],
)
def test_languages_are_told_by_their_script(text: str, language: str) -> None:
    assert language_of(text, "fr") == language
