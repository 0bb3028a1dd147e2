"""Kinds of tasks whose answer is open: spans, rows of columns, a line, a text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from megatron_redone.scoring.base import Scorer
from megatron_redone.scoring.pattern import read_label
from megatron_redone.scoring.set_f1 import SetF1
from megatron_redone.tasks import answer_lists as lists, answers
from megatron_redone.tasks.base import AnswerFormat, Field, RewardKind, Row, Task
from megatron_redone.tasks.kinds import make_task, quoted_in
from megatron_redone.tasks.prompts import ByLanguage


def list_spans(
    name: str, capability: str, ask: ByLanguage, fields: Sequence[Field], within: Sequence[Field], **more: Any
) -> Task:
    """Words of the fields `within`, quoted, as a list literal that may be empty; set F1."""
    form = {
        "en": "Reply with a list like ['a', 'b'], or [] if there is none.",
        "zh": "回复列表，如 ['a', 'b']；没有则回复 []。",
    }
    return make_task(
        name,
        capability,
        ask,
        fields,
        form,
        checks=(quoted_in(*within),),
        answer_format="extraction",
        reward_kind="metric",
        parser=answers.parse_list_literal,
        scorer=SetF1(),
        formatter=answers.list_literal,
        format_rule="a list like ['a', 'b'], or []",
        answer_kind="texts",
        canonical=answers.without_repeats,
        allow_empty_answer=True,
        empty_text="[]",
        **more,
    )


def list_columns(
    name: str,
    capability: str,
    ask: ByLanguage,
    fields: Sequence[Field],
    columns: ByLanguage,
    *,
    scorer: Scorer | None = None,
    within: Sequence[Field] = (),
    quoted: Sequence[int] = (),
    allowed: Field | None = None,
    **more: Any,
) -> Task:
    """Lines of columns such as `item | price`, or none; set F1 of whole rows unless another scorer is given.

    Columns `quoted` stand word for word in the fields `within`; the last column is one of `allowed` if given.
    """
    num_columns = columns["en"].count("|") + 1
    form = {
        "en": f"Reply with one line for each: {columns['en']}. If there is none, reply none.",
        "zh": f"每行一条，格式：{columns['zh']}。没有则回复无。",
    }
    shown = (*fields, allowed) if allowed else tuple(fields)

    def parse(answer: str, row: Row) -> list[str] | None:
        rows = lists.parse_columns(num_columns)(answer, row)
        if rows is None or allowed is None:
            return rows
        split = [item.rpartition(" | ") for item in rows]
        return [head + bar + (read_label(last, allowed.value(row)) or last) for head, bar, last in split]

    def check_columns(row: Row) -> list[str]:
        bad = [item for item in row.answer if lists.parse_columns(num_columns)(item, row) is None]
        if bad:
            return [f"gold row {bad[0]!r} has not the {num_columns} columns {columns['en']}"]
        last = [item.split("|")[-1].strip() for item in row.answer] if allowed else []
        wrong = [value for value in last if allowed and value not in allowed.value(row)]
        if wrong:
            return [f"gold value {wrong[0]!r} is none of the labels"]
        return [problem for column in quoted for problem in quoted_in(*within, column=column)(row)]

    return make_task(
        name,
        capability,
        ask,
        shown,
        form,
        checks=(check_columns,),
        answer_format="extraction",
        reward_kind="metric",
        parser=lists.or_none(parse),
        scorer=scorer or SetF1(),
        formatter=lists.lines_or_none,
        format_rule=f"lines `{columns['en']}`, or none (无)",
        answer_kind="texts",
        canonical=lambda row: lists.columns_of(row, num_columns),
        allow_empty_answer=True,
        empty_text=lists.NONE_WORDS["en"],
        **more,
    )


def write_line(
    name: str,
    capability: str,
    ask: ByLanguage,
    fields: Sequence[Field],
    scorer: Scorer,
    *,
    reward_kind: RewardKind = "metric",
    answer_format: AnswerFormat = "generation",
    form: ByLanguage | None = None,
    **more: Any,
) -> Task:
    """One line of free text."""
    asked = form or {"en": "Reply with one line and nothing else.", "zh": "只回复一行文字。"}
    kind: dict[str, Any] = {
        "parser": answers.parse_line,
        "formatter": answers.plain_text,
        "format_rule": "one line of text",
    }
    return make_task(
        name,
        capability,
        ask,
        fields,
        asked,
        answer_format=answer_format,
        reward_kind=reward_kind,
        scorer=scorer,
        **{**kind, **more},
    )


def write_text(
    name: str,
    capability: str,
    ask: ByLanguage,
    fields: Sequence[Field],
    scorer: Scorer,
    form: ByLanguage,
    *,
    reward_kind: RewardKind = "metric",
    **more: Any,
) -> Task:
    """Free text of any number of lines."""
    settings = {"parser": answers.parse_text, "format_rule": "a text that is not empty", **more}
    return write_line(name, capability, ask, fields, scorer, reward_kind=reward_kind, form=form, **settings)
