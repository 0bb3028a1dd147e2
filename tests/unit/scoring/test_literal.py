from __future__ import annotations

import ast
import json
import math
import time
from typing import Any

import pytest
from hypothesis import given, strategies as st

from megatron_redone.scoring.literal import MAX_DEPTH, read_literal, read_text_list, write_text_list

NO_SURROGATES = st.text(st.characters(exclude_categories=["Cs"]), max_size=10)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | NO_SURROGATES
JSON_VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner) | st.dictionaries(NO_SURROGATES, inner), max_leaves=12
)
PYTHON_VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner) | st.lists(inner).map(tuple) | st.dictionaries(NO_SURROGATES, inner),
    max_leaves=12,
)


@given(PYTHON_VALUES)
def test_reads_what_python_writes(value: Any) -> None:
    assert read_literal(repr(value)) == ast.literal_eval(repr(value)) == value


@given(JSON_VALUES, st.booleans(), st.sampled_from([None, 2]))
def test_reads_what_json_writes(value: Any, ascii_only: bool, indent: int | None) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only, indent=indent)
    assert read_literal(text) == json.loads(text) == value


@given(st.lists(st.text(max_size=12), max_size=5))
def test_lists_of_texts_survive_writing_and_reading(items: list[str]) -> None:
    assert read_text_list(write_text_list(items)) == items


def test_written_lists_look_like_pythons() -> None:
    assert write_text_list(["a", "b c"]) == "['a', 'b c']"
    assert write_text_list([]) == "[]"
    assert write_text_list(["it's", 'say "hi"', "both ' and \""]) == "[\"it's\", 'say \"hi\"', 'both \\' and \"']"
    assert write_text_list(["你好😊\n"]) == "['你好😊\\n']"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("['a',]", ["a"]),
        (" [ 'a' , \"b\" ] ", ["a", "b"]),
        ("'a', 'b'", ("a", "b")),
        ("('a')", "a"),
        ("('a',)", ("a",)),
        ("{'a': [1, 2.5, -3e2], 'b': null}", {"a": [1, 2.5, -300.0], "b": None}),
        ('"\\ud83d\\ude0a"', "😊"),
        (r"'\q\/'", "\\q/"),
        ("'line\nbreak'", "line\nbreak"),
    ],
)
def test_reads_both_spellings(text: str, value: Any) -> None:
    assert read_literal(text) == value


@pytest.mark.parametrize(
    "text",
    [
        "", "  ", "[", "]", "['a'", "['a' 'b']", "['a', , 'b']", "[,]", "{'a'}", "{'a': }", "{[]: 1}", "a",
        "nan", "['a']]", "['a'] tail", "__import__('os')", "['a'].pop()", "f'{x}'", "b'a'", "1+1",
        "'unclosed", "'end\\", "[1" + "0" * 400 + "]", "\0", "[\ud800]",
    ],
)  # fmt: skip
def test_refuses_everything_else(text: str) -> None:
    with pytest.raises(ValueError, match=r"character \d+|no value"):
        read_literal(text)


def test_numbers_out_of_range_are_infinite_not_errors() -> None:
    assert read_literal("1e999") == math.inf


def test_depth_is_a_rule_not_a_crash() -> None:
    assert read_literal("[" * MAX_DEPTH + "]" * MAX_DEPTH) is not None
    with pytest.raises(ValueError, match="nested deeper than 32"):
        read_literal("[" * 1_000_000)


@pytest.mark.parametrize("text", ["['" * 300_000, "'" + "\\'" * 500_000, "[" + "'a'," * 200_000 + "]", " " * 1_000_000])
def test_time_is_linear_in_the_text(text: str) -> None:
    start = time.process_time()
    read_text_list("[" + text)
    read_text_list(text)
    assert time.process_time() - start < 5.0


@pytest.mark.parametrize("text", ["('a',)", "'a'", "{'a': 1}", "[1]", "['a', None]", "[['a']]", "nothing", ""])
def test_a_text_list_is_a_list_of_texts_only(text: str) -> None:
    assert read_text_list(text) is None
