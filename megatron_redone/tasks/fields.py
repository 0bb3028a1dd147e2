"""The fields of a task's row: their types, defaults and how a prompt shows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from megatron_redone.scoring.literal import write_text_list
from megatron_redone.scoring.pattern import letters
from megatron_redone.tasks.row import Row

FieldKind = Literal["text", "texts", "integer", "objects"]
Joined = Literal["commas", "lines", "letters", "literal", "queries", "candidates"]
_NUMBERED = {"queries": "Q", "candidates": "N"}


@dataclass(frozen=True)
class Field:
    """One field of a row.

    Attributes:
        name: key in `Row.fields` and in the templates.
        kind: `text`, `texts` (list of texts), `integer` (>= 1) or `objects` (list of JSON objects).
        joined: how a list is shown: with commas, one a line, lettered lines "A. ...", as a list literal, or as
            numbered lines "Q1: ..." (queries) or "N1: ..." (candidates).
        default: stands in for an absent field; a mapping holds one default per language; None makes the field
            required.
        allow_empty: whether an empty text or list is accepted.
        shown: whether the templates show it; a field for the scorer alone is not shown.
        lead: what stands before the value where it is not empty, by language; such a field leaves no heading
            without a value behind.
    """

    name: str
    kind: FieldKind = "text"
    joined: Joined = "commas"
    default: Any = None
    allow_empty: bool = False
    shown: bool = True
    lead: Mapping[str, str] | None = None

    def value(self, row: Row) -> Any:
        """The row's value, or the default."""
        if self.name in row.fields or not isinstance(self.default, Mapping):
            return row.fields.get(self.name, self.default)
        return self.default[row.language]

    def text(self, row: Row) -> str:
        """What the prompt shows in the field's place."""
        value = self.value(row)
        shown = join_items(value, self.joined, row.language) if self.kind == "texts" else str(value)
        return self.lead[row.language] + shown if self.lead and shown.strip() else shown

    def problems(self, row: Row) -> list[str]:
        """What is wrong with this field of the row."""
        where = f"field {self.name!r}"
        if self.name not in row.fields:
            return [f"{where} is missing; {row.task} needs it"] if self.default is None else []
        value = row.fields[self.name]
        found = type(value).__name__
        if self.kind == "integer":
            valid = type(value) is int and value >= 1
            return [] if valid else [f"{where} is {value!r}, expected an integer >= 1"]
        if self.kind == "text":
            if not isinstance(value, str):
                return [f"{where} is {found}, expected a text"]
            return [] if value.strip() or self.allow_empty else [f"{where} is empty"]
        return self._list_problems(value, where)

    def _list_problems(self, value: Any, where: str) -> list[str]:
        item_type, items = (Mapping, "JSON objects") if self.kind == "objects" else (str, "texts")
        if not isinstance(value, list | tuple) or not all(isinstance(item, item_type) for item in value):
            return [f"{where} is {type(value).__name__}, expected a list of {items}"]
        if not value and not self.allow_empty:
            return [f"{where} is an empty list"]
        if self.kind == "objects":
            return []
        if not all(item.strip() for item in value):
            return [f"{where} has an empty item"]
        if self.joined == "letters" and len(value) > len(letters(len(value))):
            return [f"{where} has {len(value)} items, lettered lists hold at most {len(letters(len(value)))}"]
        return []


def join_items(items: Sequence[str], joined: Joined, language: str) -> str:
    """A list as the prompt shows it."""
    if joined == "letters":
        return "\n".join(f"{letter}. {item}" for letter, item in zip(letters(len(items)), items, strict=True))
    if joined in _NUMBERED:
        return "\n".join(f"{_NUMBERED[joined]}{number}: {item}" for number, item in enumerate(items, start=1))
    if joined == "lines":
        return "\n".join(items)
    if joined == "literal":
        return write_text_list(items)
    return ("，" if language == "zh" else ", ").join(items)
