r"""Lists as text: a reader of Python and JSON literals that executes nothing, and a writer of them.

The reader takes texts in quotes, numbers, true/false/null in either spelling, and lists, tuples and objects
of them. It evaluates nothing, its depth is bounded and its time is linear in the text. The escapes of both
languages are understood: \n \r \t \b \f \v \0 \a \\ \' \" \/ \xXX \uXXXX (surrogate pairs join) \UXXXXXXXX;
any other escaped character stands for itself with its backslash, as in Python.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

MAX_DEPTH = 32
MAX_NUMBER_CHARACTERS = 300

_SPACE = re.compile(r"\s*")
_TEXT = re.compile(r'"([^"\\]*(?:\\.[^"\\]*)*)"' + r"|'([^'\\]*(?:\\.[^'\\]*)*)'", re.DOTALL)
_NUMBER = re.compile(r"[-+]?(?:\d+(\.\d*)?|(\.\d+))([eE][-+]?\d+)?", re.ASCII)
_WORD = re.compile(r"[A-Za-z]+")
_ESCAPE = re.compile(r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U(00(?:0[0-9a-fA-F]|10)[0-9a-fA-F]{4})|(.))", re.DOTALL)
_SURROGATE_PAIR = re.compile("([\ud800-\udbff])([\udc00-\udfff])")

_WORDS = {"true": True, "True": True, "false": False, "False": False, "null": None, "None": None}
_NAMED_ESCAPES = dict(zip("nrtbfv0a\\'\"/", "\n\r\t\b\f\v\0\a\\'\"/", strict=True)) | {"\n": ""}
_CLOSING = {"[": "]", "(": ")", "{": "}"}


def read_literal(text: str) -> Any:
    """The value that the whole text writes down; "1, 2" without brackets is the tuple (1, 2).

    Raises:
        ValueError: the text is not one literal of the kinds above, or nests deeper than 32.
    """
    reader = _Reader(text)
    values, has_comma = reader.items(closing="", depth=0)
    if not values:
        raise ValueError("no value")
    return tuple(values) if has_comma else values[0]


def read_text_list(text: str) -> list[str] | None:
    """The list of texts that the whole text writes down, or None where it is anything else."""
    if not text.lstrip().startswith("["):
        return None
    try:
        value = read_literal(text)
    except ValueError:
        return None
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return value
    return None


def write_text_list(items: Sequence[str]) -> str:
    """`['a', 'b']`, read back by `read_text_list`; only quotes, backslashes and line breaks are escaped."""
    return "[" + ", ".join(_quoted(item) for item in items) + "]"


def _quoted(text: str) -> str:
    quote = '"' if "'" in text and '"' not in text else "'"
    escaped = text.replace("\\", "\\\\").replace(quote, "\\" + quote)
    return quote + escaped.replace("\n", "\\n").replace("\r", "\\r").replace("\t", "\\t") + quote


class _Reader:
    """Recursive descent over one text; the depth is at most MAX_DEPTH."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.position = 0

    def items(self, closing: str, depth: int) -> tuple[list[Any], bool]:
        """Values between commas up to the closing mark ("" is the end), and whether a comma was met."""
        values: list[Any] = []
        has_comma = False
        while not self.take(closing):
            values.append(self.value(depth))
            if self.take(closing):
                return values, has_comma
            if not self.take(","):
                raise self.error("expected a comma or the closing bracket")
            has_comma = True
        return values, has_comma

    def value(self, depth: int) -> Any:
        mark = self.text[self.position : self.position + 1]
        if mark in _CLOSING:
            if depth >= MAX_DEPTH:
                raise self.error(f"nested deeper than {MAX_DEPTH}")
            self.position += 1
            return self.container(mark, depth + 1)
        if match := _TEXT.match(self.text, self.position):
            self.position = match.end()
            return _unescaped(match[1] if match[1] is not None else match[2])
        if match := _NUMBER.match(self.text, self.position):
            if len(match[0]) > MAX_NUMBER_CHARACTERS:
                raise self.error(f"a number of more than {MAX_NUMBER_CHARACTERS} characters")
            self.position = match.end()
            return float(match[0]) if match[1] or match[2] or match[3] else int(match[0])
        match = _WORD.match(self.text, self.position)
        if match is None or match[0] not in _WORDS:
            raise self.error("expected a quoted text, a number, a list or true/false/null")
        self.position = match.end()
        return _WORDS[match[0]]

    def container(self, mark: str, depth: int) -> Any:
        if mark == "{":
            return self.object(depth)
        values, has_comma = self.items(_CLOSING[mark], depth)
        if mark == "[":
            return values
        return values[0] if len(values) == 1 and not has_comma else tuple(values)

    def object(self, depth: int) -> dict[Any, Any]:
        result: dict[Any, Any] = {}
        while not self.take("}"):
            key = self.value(depth)
            if isinstance(key, list | dict | tuple) or not self.take(":"):
                raise self.error("expected a plain key and a colon")
            self.take_space()
            result[key] = self.value(depth)
            if self.take("}"):
                break
            if not self.take(","):
                raise self.error("expected a comma or the closing bracket")
        return result

    def take(self, mark: str) -> bool:
        """Skips white space, then the mark if it stands there; "" stands at the end of the text."""
        self.take_space()
        if mark == "":
            return self.position == len(self.text)
        if self.text.startswith(mark, self.position):
            self.position += len(mark)
            return True
        return False

    def take_space(self) -> None:
        match = _SPACE.match(self.text, self.position)
        assert match is not None
        self.position = match.end()

    def error(self, problem: str) -> ValueError:
        return ValueError(f"{problem} at character {self.position}")


def _unescaped(body: str) -> str:
    if "\\" not in body:
        return body
    return _SURROGATE_PAIR.sub(_joined, _ESCAPE.sub(_character, body))


def _character(escape: re.Match[str]) -> str:
    code = escape[1] or escape[2] or escape[3]
    return chr(int(code, 16)) if code else _NAMED_ESCAPES.get(escape[4], escape[0])


def _joined(pair: re.Match[str]) -> str:
    return chr(0x10000 + ((ord(pair[1]) - 0xD800) << 10) + (ord(pair[2]) - 0xDC00))
