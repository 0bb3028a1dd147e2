"""A row before it has an id: fields, answer, and the texts that make it what it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from megatron_redone.curation.synthesize.notes import Author
from megatron_redone.curation.synthesize.texts import Drawn, Text

YES, NO = Text("Yes", "是"), Text("No", "否")


@dataclass(frozen=True, slots=True)
class Draft:
    """Fields and answer in the language of the row.

    `texts` are the free texts, which belong to one split and identify the row; options and labels are not.
    """

    fields: dict[str, Any]
    answer: Any
    texts: tuple[str, ...]
    rationale: str | None = None


@dataclass(frozen=True, slots=True)
class Order:
    """What one row shall be.

    Attributes:
        language: "en" or "zh".
        label: number of the class, taken in turn so that the classes of a split are balanced.
        place: where the right option stands, taken in turn (modulo the number of options).
    """

    author: Author
    language: str
    label: int
    place: int


def placed(gold: Drawn, others: Sequence[Drawn], place: int) -> list[Drawn]:
    """The options, with the right one at `place` modulo their number."""
    options = list(others)
    options.insert(place % (len(options) + 1), gold)
    return options


def worded(texts: Sequence[Text], language: str) -> list[str]:
    """Texts in a language."""
    return [text.of(language) for text in texts]
