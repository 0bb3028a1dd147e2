"""Semantic matching of queries and notes."""

from __future__ import annotations

from megatron_redone.scoring.exact_match import ExactMatch
from megatron_redone.scoring.pattern import read_level
from megatron_redone.scoring.set_f1 import LevelF1
from megatron_redone.tasks.answers import (
    letters_of,
    parse_choice,
    parse_letter,
    plain_text,
    yes_no,
    yes_no_answer,
)
from megatron_redone.tasks.base import Field, Row, Task

CAPABILITY = "semantic_matching"
LANGUAGES = ("en", "zh")
RELEVANCE_LEVELS = (-1, 0, 1, 2, 3)


def _parse_level(answer: str, row: Row) -> int | None:
    return read_level(answer, RELEVANCE_LEVELS)


def _level_options(row: Row) -> list[list[str]]:
    return [[str(level) for level in RELEVANCE_LEVELS]]


QUERY_NOTE_RELEVANCE = Task(
    name="query_note_relevance",
    capability=CAPABILITY,
    languages=LANGUAGES,
    answer_format="choice",
    reward_kind="metric",
    fields=(Field("query"), Field("note")),
    templates={
        "en": "Relevance level: -1, 0, 1, 2 or 3?\nQuery: {query}\nNote: {note}",
        "zh": "相关等级：-1、0、1、2 或 3？\n查询：{query}\n笔记：{note}",
    },
    parser=_parse_level,
    scorer=LevelF1(RELEVANCE_LEVELS),
    formatter=plain_text,
    format_rule="one of -1, 0, 1, 2, 3",
    answer_kind="integer",
    options=_level_options,
    benchmark="Note-QueryCorr-topic",
    paper="Query-Note Relevance",
)

QUERY_NOTE_RELEVANCE_YES_NO = Task(
    name="query_note_relevance_yes_no",
    capability=CAPABILITY,
    languages=LANGUAGES,
    answer_format="choice",
    reward_kind="exact_match",
    fields=(Field("query"), Field("note")),
    templates={
        "en": "Relevant to query: Yes or No?\nQuery: {query}\nNote: {note}",
        "zh": "是否相关：是或否？\n查询：{query}\n笔记：{note}",
    },
    parser=parse_choice(yes_no),
    scorer=ExactMatch(),
    formatter=plain_text,
    format_rule="Yes or No (是 or 否)",
    canonical=yes_no_answer,
    options=yes_no,
    benchmark="Note-QueryCorr-explain",
    paper="Note Relevance Judge",
)

QUERY_NOTE_RETRIEVAL = Task(
    name="query_note_retrieval",
    capability=CAPABILITY,
    languages=LANGUAGES,
    answer_format="choice",
    reward_kind="exact_match",
    fields=(Field("query"), Field("notes", "texts", joined="letters")),
    templates={
        "en": "Retrieval: letter of the best note.\nQuery: {query}\n{notes}",
        "zh": "检索：最佳笔记的字母。\n查询：{query}\n{notes}",
    },
    parser=parse_letter(letters_of("notes")),
    scorer=ExactMatch(),
    formatter=plain_text,
    format_rule="the letter of one note",
    options=letters_of("notes"),
    paper="Query-Note Retrieval (Single Answer)",
)

TASKS = (QUERY_NOTE_RELEVANCE, QUERY_NOTE_RELEVANCE_YES_NO, QUERY_NOTE_RETRIEVAL)
