from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from megatron_redone.evaluation.sns_bench.python_literal import first_list, read_python_literal

TEXTS = st.text(max_size=12)
VALUES = st.recursive(
    TEXTS | st.integers() | st.booleans() | st.none(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner, inner)
        | st.dictionaries(TEXTS | st.integers(), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(VALUES)
def test_what_python_writes_down_is_read_back(value: object) -> None:
    negative = isinstance(value, int) and not isinstance(value, bool) and value < 0
    if not negative:  # a sign is read after a bracket, comma or colon only
        assert read_python_literal(repr(value)) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("'a'", "a"),
        ("'a' 'b'", "ab"),
        ("'a', 'b'", ("a", "b")),
        ("  ['a',\n 'b'] # c", ["a", "b"]),
        ("['''a\nb''']", ["a\nb"]),
        (r"['a\/b\d']", [r"a\/b\d"]),
        (r"[r'\n']", [r"\n"]),
        ("{'a': -1}", {"a": -1}),
        ("{'a', 'a'}", {"a"}),
    ],
)
def test_python_rules_hold(text: str, value: object) -> None:
    assert read_python_literal(text) == value


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a",
        "[a]",
        "['a\nb']",
        "['it's']",
        "[null]",
        "['a'",
        "f'{x}'",
        "'a'\n'b'",
        "[“a”]",
        "['a']，",
        "\0",
        "'\ud800'",
    ],
)
def test_what_python_does_not_read_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        read_python_literal(text)


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('echo')",
        "print('x')",
        "['a'] * 9",
        "'a' + 'b'",
        "9**9**9",
        "[x for x in 'ab']",
        "ref",
        "(lambda: 'a')()",
        "f'{print(1)}'",
        "'%s' % 'a'",
    ],
)
def test_nothing_is_executed(text: str) -> None:
    with pytest.raises(ValueError, match=r"not a Python literal"):
        read_python_literal(text)


def test_deep_and_long_texts_are_refused_or_read() -> None:
    for text in (
        "[" * 100_000,
        "-" * 100_000 + "1",
        "+1" * 100_000,
        "1 if 1 else " * 20_000,
        "{" * 100_000,
        "1" * 5000,
    ):
        with pytest.raises(ValueError):
            read_python_literal(text)
    assert len(read_python_literal("[" + "'a'," * 20_000 + "]")) == 20_000


def test_the_first_list_without_lists_inside() -> None:
    assert first_list("see [['a'], ['b']]") == "['a']"
    assert first_list("[a [b") == "[a [b"
    assert first_list("'[x]' and [y]") == "[x]"
    assert first_list("[a\nb]") == "[a\nb]"
