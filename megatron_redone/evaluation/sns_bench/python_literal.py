"""What the official code means by a list: it evaluates the answer as Python. Here it is only ever read.

`scoring/literal.py` reads more than Python does (a line break inside quotes, `true`, the escapes of JSON), so it would
score answers that the official code counts as errors. This reader accepts exactly the literals among what
Python evaluates: Python's own parser decides, after a filter has let pass nothing but quoted texts, numbers,
`True`, `False`, `None`, brackets, commas and colons. So there is nothing to execute, and no depth that could
harm the parser. Names, calls and operators are refused: the official code would run them.
"""

from __future__ import annotations

import ast
import re
import warnings
from typing import Any

_LIST = re.compile(r"\[[^\[\]]*\]")
_LITERAL_TOKENS = re.compile(
    r"""
    (?:
        (?:[rRuUbB]|[rR][bB]|[bB][rR])?            # a text in quotes, with a prefix of Python; no f-strings
        (?:'''(?:[^\\]|\\.)*?'''|\"\"\"(?:[^\\]|\\.)*?\"\"\"|'(?:[^'\\\n]|\\.)*+'|"(?:[^"\\\n]|\\.)*+")
      | \#[^\n]*                                   # a comment
      | (?:True|False|None)\b
      | \.?[0-9][0-9A-Za-z_.]*                     # a number; the parser looks closer
      | [\[({,:]\s*[+-]?                           # a sign stands at the start of a value only, so that none add up
      | [\])}\s\\]
    )*+
    """,
    re.VERBOSE | re.DOTALL,
)


def first_list(text: str) -> str:
    """The first `[...]` without brackets inside; the whole text where there is none."""
    match = _LIST.search(text)
    return match.group() if match else text


def read_python_literal(text: str) -> Any:
    """The value that the whole text writes down as a Python literal; "1, 2" is a tuple.

    Raises:
        ValueError: it is not one.
    """
    if not _LITERAL_TOKENS.fullmatch(text):
        raise ValueError("not a Python literal")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an unknown escape is a warning, to the official code as well
            return ast.literal_eval(text)
    except (SyntaxError, ValueError, TypeError, MemoryError, RecursionError) as error:
        raise ValueError(f"not a Python literal: {error}") from error
