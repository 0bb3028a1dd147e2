"""Sentences of English and Chinese texts, texts cut at their borders, and a count of tokens without a tokenizer."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator

CountTokens = Callable[[str], int]

_HAN = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")
_BORDER = re.compile(
    r"""
    [。！？…；]+[”’」』）》]*            # Chinese marks end a sentence wherever they stand
    | [.!?]+["'”’)\]]*(?=\s|$)          # English ones do before white space
    | \n+
    """,
    re.VERBOSE,
)
_HAN_PER_TOKEN = 1.5
_OTHERS_PER_TOKEN = 4.0
_LONGEST_TOKEN = 16
"""Characters a token that no text exceeds for long: bounds what is counted at once."""
_ABBREVIATIONS = re.compile(r"(?:^|[\s(])(?:[A-Za-z]|Mr|Mrs|Ms|Dr|St|vs|etc|e\.g|i\.e|No)\.$")


def num_han(text: str) -> int:
    """Chinese characters in a text."""
    return len(_HAN.findall(text))


def estimated_tokens(text: str) -> int:
    """Tokens of a text, estimated from its characters: 1.5 Chinese ones a token, 4 others, rounded up."""
    han = num_han(text)
    return math.ceil(han / _HAN_PER_TOKEN + (len(text) - han) / _OTHERS_PER_TOKEN)


def script_language(text: str) -> str:
    """ "zh" for a text with more than one Chinese character in ten, else "en": a rule for texts too short to tell."""
    return "zh" if 10 * num_han(text) > len(text) else "en"


def sentences(text: str) -> Iterator[str]:
    """The sentences of a text, each with the white space behind it: joined they are the text."""
    start = 0
    for border in _BORDER.finditer(text):
        end = border.end()
        if _ABBREVIATIONS.search(text[start:end]):
            continue
        while end < len(text) and text[end].isspace():
            end += 1
        if end > start:
            yield text[start:end]
            start = end
    if start < len(text):
        yield text[start:]


def segments(text: str, max_tokens: int, count_tokens: CountTokens = estimated_tokens) -> Iterator[str]:
    """Cuts a text into stretches of whole sentences of at most `max_tokens` tokens, stripped.

    A sentence is cut only when it alone is longer: at white space, or between characters where there is none.
    """
    held, tokens = "", 0
    for sentence in sentences(text):
        for part in _fitting(sentence, max_tokens, count_tokens):
            count = count_tokens(part)
            if held and tokens + count > max_tokens:
                yield held.strip()
                held, tokens = "", 0
            held, tokens = held + part, tokens + count
    if held.strip():
        yield held.strip()


def _fitting(sentence: str, max_tokens: int, count_tokens: CountTokens) -> Iterator[str]:
    """The sentence, or where it is too long stretches of it that fit."""
    start, reach = 0, _LONGEST_TOKEN * max_tokens
    while start < len(sentence):
        part = sentence[start : start + reach]
        if start + len(part) == len(sentence) and count_tokens(part) <= max_tokens:
            yield part
            return
        low, high = 1, len(part)  # the longest prefix that fits; one character counts as fitting
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if count_tokens(part[:middle]) <= max_tokens else (low, middle - 1)
        blank = max((place for place in range(low, low // 2, -1) if part[place - 1].isspace()), default=low)
        yield part[:blank]
        start += blank


def first_segment(text: str, max_tokens: int, count_tokens: CountTokens = estimated_tokens) -> str:
    """As many whole sentences from the start as fit; a part of the first one where it alone is longer."""
    return next(segments(text, max_tokens, count_tokens), "")
