"""The official parsers of SNS-Bench: where its scorer cuts an answer off before it compares.

The published patterns write special tokens such as `<|end|>` without escaping the bars, so that every part between
bars is a border of its own: `<`, `>`, and for labels the letters "end" wherever they stand ("Weekend trip" becomes
"Week"). They are kept as they are, since published figures were made with them; nothing else in the library uses them.
"""

from __future__ import annotations

import re

_LABEL_END = re.compile(r"[\n.,<>]|end|im_end")
_SHORT_END = re.compile(r"[\n.,<>]|endofresponse")
_LINE_END = re.compile(r"[\n<>]|endofresponse")
_SENTENCE_END = re.compile(r"[\n.,]")
_PUNCTUATION = re.compile(r"[^\w\s]")
_ARTICLE = re.compile(r"\b(?:a|an|the)\b", re.IGNORECASE)
_SPACES = re.compile(r"\s+")


def label_cut(text: str) -> str:
    """Of Taxonomy (both) and Hashtag-single: up to a line break, `.`, `,`, `<`, `>`, "end" or "im_end"."""
    return _before(_LABEL_END, _without_lead(text)).strip()


def short_cut(text: str) -> str:
    """Of the two yes/no tasks: up to a line break, `.`, `,`, `<`, `>` or "endofresponse"."""
    return _before(_SHORT_END, _without_lead(text)).strip()


def comma_list_cut(text: str) -> list[str]:
    """Of Hashtag-multiple and NER: up to a line break, `<`, `>` or "endofresponse", then cut at commas.

    Nothing between two commas is no item; white space alone is an empty one, as in the official code.
    """
    return [item.strip() for item in _before(_LINE_END, _without_lead(text)).split(",") if item]


def first_line_cut(text: str) -> str:
    """Of QueryGen's cosine: up to a line break, `<`, `>` or "endofresponse"; "Answer:" stays."""
    return _before(_LINE_END, text.strip())


def normalised_path(text: str) -> str:
    """Of Taxonomy-multiple, after `label_cut`: no punctuation (the bars go), no articles, single spaces."""
    plain = _PUNCTUATION.sub("", _before(_SENTENCE_END, text))
    return _SPACES.sub(" ", _ARTICLE.sub("", plain)).strip()


def _without_lead(text: str) -> str:
    return text.replace("Answer:", "").strip()


def _before(border: re.Pattern[str], text: str) -> str:
    match = border.search(text)
    return text[: match.start()] if match else text
