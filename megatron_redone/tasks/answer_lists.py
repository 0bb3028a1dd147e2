"""Parsers and formatters of answers with several parts: sets of labels and letters, rows of columns, matches."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from megatron_redone.scoring.normalise import loose, tidy
from megatron_redone.scoring.pattern import read_bars, read_commas, read_label, read_letter
from megatron_redone.scoring.soft_f1 import part_similarity
from megatron_redone.tasks.answers import Options, Parser, comma_list
from megatron_redone.tasks.row import Row

NONE_WORDS = {"en": "none", "zh": "无"}
MAX_ITEMS = 200

_MATCH = re.compile(
    r"\A(?P<query>Q[0-9]{1,3})\s*[:：]\s*(?P<notes>N[0-9]{1,3}(?:\s*[,，、]\s*N[0-9]{1,3})*)\Z", re.ASCII
)


def says_none(answer: str) -> bool:
    """Whether the answer is the word for an empty list, in either language."""
    return loose(answer) in NONE_WORDS.values()


def or_none(parser: Parser) -> Parser:
    """Reads `none` (无) as the empty list, and all else by the parser."""
    return lambda answer, row: [] if says_none(answer) else parser(answer, row)


def commas_or_none(gold: Any, row: Row) -> str:
    """A comma list, or the row's word for none."""
    return comma_list(gold, row) if gold else NONE_WORDS[row.language]


def lines_or_none(gold: Any, row: Row) -> str:
    """One item a line, or the row's word for none."""
    return "\n".join(gold) if gold else NONE_WORDS[row.language]


def parse_labels(options: Options) -> Parser:
    """Labels between commas; one that is not among the options stays and counts as a wrong one."""

    def parse(answer: str, row: Row) -> list[str] | None:
        items = read_commas(answer, row.language)
        if items is None or len(items) > MAX_ITEMS:
            return None
        known = options(row)[0]
        return list(dict.fromkeys(read_label(item, known) or item for item in items))

    return parse


def parse_letters(options: Options) -> Parser:
    """Option letters between commas, in any order; one that is no option's breaks the format."""

    def parse(answer: str, row: Row) -> list[str] | None:
        parts = re.split("[,，、]", answer)
        found = [read_letter(part, len(options(row)[0])) for part in parts[:MAX_ITEMS]]
        if None in found or len(parts) > MAX_ITEMS:
            return None
        return sorted({letter for letter in found if letter is not None})

    return parse


def sorted_letters(row: Row) -> list[str]:
    """The gold letters, each once, in order of the alphabet."""
    return sorted(set(row.answer))


def parse_lines(answer: str, row: Row) -> list[str] | None:
    """One item a line, tidied, each once; empty lines are skipped."""
    items = [tidy(line) for line in answer.splitlines() if line.strip()]
    return list(dict.fromkeys(items)) if len(items) <= MAX_ITEMS else None


def tidy_lines(row: Row) -> list[str]:
    """The gold items as `parse_lines` reads them."""
    return list(dict.fromkeys(tidy(item) for item in row.answer))


def parse_columns(num_columns: int) -> Parser:
    """Lines of `a | b | c`, each once; a line with another number of columns breaks the format."""

    def parse(answer: str, row: Row) -> list[str] | None:
        lines = [line for line in answer.splitlines() if line.strip()]
        rows = [read_bars(line, num_columns) for line in lines[:MAX_ITEMS]]
        if None in rows or len(lines) > MAX_ITEMS:
            return None
        return list(dict.fromkeys(" | ".join(parts) for parts in rows if parts is not None))

    return parse


def columns_of(row: Row, num_columns: int) -> list[str]:
    """The gold rows as `parse_columns` reads them; a row with another number of columns stays as it is."""
    found = [read_bars(item, num_columns) for item in row.answer]
    return list(dict.fromkeys(" | ".join(parts or [item]) for parts, item in zip(found, row.answer, strict=True)))


def row_similarity(first: str, second: str) -> float:
    """Mean ANLS of two rows of columns, 0 where one has more columns."""
    return part_similarity(first.split(" | "), second.split(" | "))


def parse_matches(answer: str, row: Row) -> list[str] | None:
    """Lines `Q1: N3, N7` as the pairs `Q1-N3`, `Q1-N7`; every query of the row once, numbers within the row's."""
    pairs: list[str] = []
    seen: set[str] = set()
    for line in (line.strip() for line in answer.splitlines()):
        match = _MATCH.match(line.upper()) if line else None
        if line and (match is None or match["query"] in seen):
            return None
        if match is not None:
            seen.add(match["query"])
            notes = [note.strip() for note in re.split("[,，、]", match["notes"])]
            pairs += [f"{match['query']}-{note}" for note in notes]
    numbers = matching_numbers(row)
    inside = all(pair in numbers for pair in pairs)
    return list(dict.fromkeys(pairs)) if inside and len(seen) == len(row.fields["queries"]) else None


def matching_numbers(row: Row) -> set[str]:
    """Every pair `Q1-N1` that a row's queries and notes allow."""
    queries, notes = len(row.fields["queries"]), len(row.fields["candidate_notes"])
    return {f"Q{query}-N{note}" for query in range(1, queries + 1) for note in range(1, notes + 1)}


def write_matches(gold: Any, row: Row) -> str:
    """Pairs as lines `Q1: N3, N7`, in order of first mention."""
    notes: dict[str, list[str]] = {}
    for pair in gold:
        query, _, note = pair.partition("-")
        notes.setdefault(query, []).append(note)
    return "\n".join(f"{query}: {', '.join(found)}" for query, found in notes.items())


def segments(gold: Sequence[str], row: Row) -> str:
    """`a | b | c`."""
    return " | ".join(gold)


def parse_segments(field: str) -> Parser:
    """`a | b | c`, whose parts put end to end are the field's text (white space and case aside)."""

    def parse(answer: str, row: Row) -> list[str] | None:
        parts = [tidy(part) for part in re.split(r"[|｜]", answer)]
        whole = "".join("".join(parts).split()).casefold() == "".join(tidy(row.fields[field]).split()).casefold()
        return parts if whole and all(parts) else None

    return parse
