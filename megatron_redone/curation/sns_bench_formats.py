"""The files of SNS-Bench, item by item, as fields and answers of the catalogue's tasks.

The benchmark keeps several fields in one text, under headings whose wording varies from item to item because
they were translated one by one. Each reader here knows one file; an item it cannot take apart is refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from megatron_redone.common.errors import DataError
from megatron_redone.scoring.literal import read_text_list
from megatron_redone.tasks.catalogue import TASKS

_TITLED_NOTE = re.compile(
    r"\s*(?:note(?:book)? )?title[:：](?P<title>[^\n]*)\n\s*(?:note(?:book)? )?content[:：]?(?P<content>.*)",
    re.DOTALL | re.IGNORECASE,
)
_TITLE_HEADING = re.compile(r"\s*(?:note(?:book)? )?title[:：]", re.IGNORECASE)
_POST = re.compile(r"\s*title[:：](?P<title>[^\n]*)\n(?P<content>.*)", re.DOTALL | re.IGNORECASE)
_FENCE = re.compile(r"\A\s*(?:```|\"\"\")?\s*|\s*(?:```|\"\"\")?\s*\Z")
_QUERY_AND_NOTE = re.compile(r"query[:：](?P<query>[^\n]*)\n\s*notes?[:：](?P<note>.*)", re.DOTALL | re.IGNORECASE)
_COMMENT = re.compile(
    r"\s*(?:the )?comments?\b[^:：\n]*[:：](?P<comment>.*?)"
    r"\n\s*(?:possible|potential) highlight[^:：\n]*[:：]\s*(?P<options>\[.*\])\s*\n\s*please.*",
    re.DOTALL | re.IGNORECASE,
)
_ENTITY_TYPE = re.compile(r"'(?P<type>.+)'\s+entit", re.DOTALL)
_MISSING_TITLE = "nan"


@dataclass(frozen=True)
class Item:
    """One item of a file.

    Attributes:
        fields, answer: as the task of the file declares them.
        texts: what users wrote in it (no options, no labels): rows that share one belong to the same split.
    """

    fields: dict[str, Any]
    answer: Any
    texts: tuple[str, ...]


def task_of_file(file: str) -> str:
    """Name of the task that asks what a file asks."""
    return next(task.name for task in TASKS.values() if task.benchmark == file)


def read_item(file: str, value: Any, where: str) -> Item:
    """Takes one element of a file's list apart; `where` opens the message of an error.

    Raises:
        DataError: a key is missing or of a wrong type, or a text has not the parts it should have.
    """
    if not isinstance(value, Mapping):
        raise DataError(f"{where}: a {type(value).__name__}, expected an object")
    return READERS[file](value, where)


def _text(value: Mapping[str, Any], key: str, where: str) -> str:
    if key not in value:
        raise DataError(f"{where}: key {key!r} is missing")
    text = value[key]
    if not isinstance(text, str):
        raise DataError(f"{where}: {key!r} is {type(text).__name__}, expected a text")
    return text


def _commas(text: str) -> list[str]:
    return [part.strip() for part in text.split(",")]


def _list(value: Mapping[str, Any], key: str, where: str) -> list[str]:
    return _list_in(_text(value, key, where), f"{where}: {key!r}")


def _list_in(text: str, where: str) -> list[str]:
    items = read_text_list(text)
    if items is None:
        raise DataError(f"{where} is no list of texts such as ['a', 'b']")
    return items


def _note(value: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Title and content under their headings; a text without a title heading is all content."""
    text = _text(value, "content", where)
    if not _TITLE_HEADING.match(text):
        return {"title": "", "content": text.strip()}
    return _title_and_content(
        _TITLED_NOTE, text, f"{where}: 'content' is not `Note Title: ...` and `Note Content: ...`"
    )


def _title_and_content(pattern: re.Pattern[str], text: str, problem: str) -> dict[str, Any]:
    found = pattern.fullmatch(text)
    if not found:
        raise DataError(problem)
    title = found["title"].strip()
    return {"title": "" if title == _MISSING_TITLE else title, "content": found["content"].strip()}


def _note_texts(fields: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(fields[name] for name in ("title", "content"))


def _gender(value: Mapping[str, Any], where: str) -> Item:
    problem = f"{where}: 'content' does not open with a line `Title: ...`"
    fields = _title_and_content(_POST, _text(value, "content", where), problem)
    return Item(fields, _text(value, "answer", where).strip(), _note_texts(fields))


def _one_of(value: Mapping[str, Any], where: str) -> Item:
    note = _note(value, where)
    fields = {**note, "candidates": _commas(_text(value, "candidates", where))}
    return Item(fields, _text(value, "answer", where).strip(), _note_texts(note))


def _some_of(value: Mapping[str, Any], where: str) -> Item:
    item = _one_of(value, where)
    return Item(item.fields, _commas(item.answer), item.texts)


def _three_levels(value: Mapping[str, Any], where: str) -> Item:
    note = _note(value, where)
    levels = {f"candidates_{level}": _list(value, f"candidates_{level}", where) for level in _LEVELS}
    answer = [part.strip() for part in _text(value, "answer", where).split("|")]
    return Item({**note, **levels}, answer, _note_texts(note))


_LEVELS = ("primary", "secondary", "tertiary")


def _relevance(value: Mapping[str, Any], where: str) -> Item:
    found = _QUERY_AND_NOTE.fullmatch(_FENCE.sub("", _text(value, "content", where)))
    if not found:
        raise DataError(f"{where}: 'content' is not `Query: ...` and `Note: ...` on lines of their own")
    fields = {"query": found["query"].strip(), "note": found["note"].strip()}
    answer = _text(value, "answer", where).strip()
    level = int(answer) if re.fullmatch(r"-?[0-9]", answer) else answer
    return Item(fields, level, (fields["query"], fields["note"]))


def _relevance_yes_no(value: Mapping[str, Any], where: str) -> Item:
    fields = {"query": _text(value, "sentence1", where).strip(), "note": _text(value, "sentence2", where).strip()}
    return Item(fields, _text(value, "answer", where).strip(), (fields["query"], fields["note"]))


def _entities(value: Mapping[str, Any], where: str) -> Item:
    found = _ENTITY_TYPE.search(_text(value, "question", where))
    if not found:
        raise DataError(f"{where}: 'question' names no entity type in quotes, as in: find all 'Place' entities")
    fields = {"entity_type": found["type"].strip(), "content": _text(value, "content", where).strip()}
    return Item(fields, _commas(_text(value, "answer", where)), (fields["content"],))


def _highlights(value: Mapping[str, Any], where: str) -> Item:
    found = _COMMENT.fullmatch(_text(value, "content", where))
    if not found:
        raise DataError(f"{where}: 'content' is not a comment, a list of highlight options, and a request")
    comment = found["comment"].strip()
    options = _list_in(found["options"], f"{where}: the list of highlight options")
    return Item({"comment": comment, "candidates": options}, _list(value, "answer", where), (comment,))


READERS: dict[str, Callable[[Mapping[str, Any], str], Item]] = {
    "Note-Gender": _gender,
    "Note-Taxonomy-single": _one_of,
    "Note-Taxonomy-multiple": _three_levels,
    "Note-Hashtag-single": _one_of,
    "Note-Hashtag-multiple": _some_of,
    "Note-QueryCorr-explain": _relevance_yes_no,
    "Note-QueryCorr-topic": _relevance,
    "Note-NER": _entities,
    "Note-CHLW": _highlights,
}
"""Reader of each file that has short answers in the form of a task of the catalogue."""
