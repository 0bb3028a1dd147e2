"""Parsers and formatters that tasks share: the asked answer formats, tied to a row's options and language.

A parser takes (answer, row) and returns the answer or None; a formatter takes (gold answer, row) and returns
its text. The readers themselves stand in `scoring/pattern.py`, `scoring/literal.py` and
`scoring/mathematics.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from megatron_redone.scoring.literal import read_text_list, write_text_list
from megatron_redone.scoring.pattern import (
    after_cue,
    letters,
    read_bars,
    read_commas,
    read_label,
    read_letter,
    read_line,
)
from megatron_redone.tasks.base import Field, Row

Parser = Callable[[str, Row], Any | None]
Formatter = Callable[[Any, Row], str]
Options = Callable[[Row], list[list[str]]]

ANSWER_CUES = ("Answer", "答案")
_YES_NO = {"en": ["Yes", "No"], "zh": ["是", "否"]}


def options_of(*fields: str | Field) -> Options:
    """The options of a row: one list per field, in order; a field given by name has no default."""
    declared = [field if isinstance(field, Field) else Field(field, "texts") for field in fields]
    return lambda row: [list(field.value(row)) for field in declared]


def letters_of(field: str) -> Options:
    """The letters of a lettered list field."""
    return lambda row: [letters(len(row.fields[field]))]


def yes_no(row: Row) -> list[list[str]]:
    """Yes and No in the row's language."""
    return [_YES_NO[row.language]]


def yes_no_answer(row: Row) -> str:
    """The gold Yes or No in the row's language; rows may say Yes and No in every language."""
    english = dict(zip(_YES_NO["en"], _YES_NO[row.language], strict=True))
    return english.get(row.answer, str(row.answer))


def without_repeats(row: Row) -> list[str]:
    """The gold items of a set, each once, in order of first mention."""
    return list(dict.fromkeys(row.answer))


def plain_text(gold: Any, row: Row) -> str:
    """The gold answer as it is."""
    return str(gold)


def comma_list(gold: Any, row: Row) -> str:
    """`a, b`; with the full-width comma in Chinese rows."""
    return ("，" if row.language == "zh" else ", ").join(gold)


def bars(gold: Any, row: Row) -> str:
    """`A | B | C`."""
    return " | ".join(gold)


def list_literal(gold: Any, row: Row) -> str:
    """`['a', 'b']` or `[]`."""
    return write_text_list(gold)


def letter_list(gold: Any, row: Row) -> str:
    """`B, A, C`."""
    return ", ".join(gold)


def cued(cues: dict[str, str], formatter: Formatter) -> Formatter:
    """`Cue: ` in the row's language before what the formatter writes."""

    def write(gold: Any, row: Row) -> str:
        colon = "：" if row.language == "zh" else ": "
        return cues[row.language] + colon + formatter(gold, row)

    return write


def parse_after(cues: dict[str, str], parser: Parser) -> Parser:
    """Demands one of the cues and a colon, then reads the rest."""

    def parse(answer: str, row: Row) -> Any | None:
        rest = after_cue(answer, tuple(cues.values()))
        return parser(rest, row) if rest else None

    return parse


def parse_choice(options: Options) -> Parser:
    """One of the row's options; `Answer:` before it is let pass."""

    def parse(answer: str, row: Row) -> str | None:
        return read_label(_uncued(answer), options(row)[0])

    return parse


def parse_letter(options: Options) -> Parser:
    """One of the row's option letters; `Answer:` before it is let pass."""

    def parse(answer: str, row: Row) -> str | None:
        return read_letter(_uncued(answer), len(options(row)[0]))

    return parse


def parse_ranking(options: Options) -> Parser:
    """All option letters of the row, each once, in any order, separated by commas."""

    def parse(answer: str, row: Row) -> list[str] | None:
        wanted = options(row)[0]
        parts = answer.replace("，", ",").replace("、", ",").split(",")
        if len(parts) != len(wanted):
            return None
        ranked = [read_letter(part, len(wanted)) for part in parts]
        return [letter for letter in ranked if letter] if sorted(filter(None, ranked)) == wanted else None

    return parse


def parse_bars(options: Options) -> Parser:
    """One option per level as `A | B | C`, each from its own list."""

    def parse(answer: str, row: Row) -> list[str] | None:
        slots = options(row)
        parts = read_bars(_uncued(answer), len(slots))
        if parts is None:
            return None
        labels = [read_label(part, slot) for part, slot in zip(parts, slots, strict=True)]
        return [label for label in labels if label is not None] if None not in labels else None

    return parse


def parse_commas(answer: str, row: Row) -> list[str] | None:
    """A one-line comma list in the row's language."""
    return read_commas(answer, row.language)


def parse_list_literal(answer: str, row: Row) -> list[str] | None:
    """A list literal of texts, without repeats; `[]` is the empty list."""
    items = read_text_list(answer)
    return None if items is None else list(dict.fromkeys(items))


def parse_line(answer: str, row: Row) -> str | None:
    """One line of text."""
    return read_line(answer)


def parse_text(answer: str, row: Row) -> str | None:
    """Any text that is not empty."""
    return answer.strip() or None


def _uncued(answer: str) -> str:
    rest = after_cue(answer, ANSWER_CUES)
    return answer if rest is None else rest
