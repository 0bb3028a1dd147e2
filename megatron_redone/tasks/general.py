"""General abilities, kept alive beside the SNS tasks."""

from __future__ import annotations

from typing import Any

from megatron_redone.scoring.mathematics import MathMatch, extract_answer, is_plain_number
from megatron_redone.tasks.base import Field, Row, Task

CAPABILITY = "general"


def parse_number(answer: str, row: Row) -> str | None:
    r"""The last `\boxed{}`, else the last number."""
    return extract_answer(answer)


def _number_text(gold: Any, row: Row) -> str:
    r"""A plain number as it is, anything else in `\boxed{}`."""
    return str(gold) if is_plain_number(str(gold)) else f"\\boxed{{{gold}}}"


def gold_text(row: Row) -> str:
    """The gold answer as a text, whether the row has a number or a text."""
    return str(row.answer)


ARITHMETIC = Task(
    name="arithmetic",
    capability=CAPABILITY,
    languages=("en", "zh"),
    answer_format="generation",
    reward_kind="exact_match",
    fields=(Field("question"),),
    templates={"en": "Calculate: {question}", "zh": "计算：{question}"},
    parser=parse_number,
    scorer=MathMatch(),
    formatter=_number_text,
    format_rule="a number, or an expression in \\boxed{}",
    answer_kind="number",
    canonical=gold_text,
)

TASKS = (ARITHMETIC,)
