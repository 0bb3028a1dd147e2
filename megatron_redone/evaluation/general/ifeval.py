"""IFEval's strict and loose reading of an answer (Zhou et al. 2023, section 2.2), with the constraints of `scoring`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from megatron_redone.scoring.constraints import constraint_of


def instruction_scores(answer: str, constraints: Sequence[Mapping[str, Any]]) -> tuple[list[bool], list[bool]]:
    """Of each constraint whether the answer keeps it, strictly and loosely. An empty answer keeps none.

    Loosely an instruction is kept if any of eight forms of the answer keeps it: without its first line, its last line,
    or both, and each of these without asterisks, because models open with a remark and set words in bold.
    """
    checks = [constraint_of(constraint) for constraint in constraints]
    forms = [form for form in loose_forms(answer) if form.strip()]
    strict = [bool(answer.strip()) and not check.problem(answer) for check in checks]
    loose = [any(not check.problem(form) for form in forms) for check in checks]
    return strict, loose


def loose_forms(answer: str) -> list[str]:
    """The eight forms, the answer itself among them."""
    lines = answer.split("\n")
    forms = [answer, *("\n".join(part).strip() for part in (lines[1:], lines[:-1], lines[1:-1]))]
    return [*forms, *(form.replace("*", "") for form in forms)]
