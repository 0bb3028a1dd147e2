"""General abilities that rules or tests judge: instructions with verifiable constraints, programs with unit tests."""

from __future__ import annotations

import re

from megatron_redone.scoring.constraints import Constraint, KeptConstraints, constraint_of, constraint_problems
from megatron_redone.scoring.unit_tests import UnitTests, defined_names, syntax_problem
from megatron_redone.tasks.base import Field, Row
from megatron_redone.tasks.kinds import make_task
from megatron_redone.tasks.list_kinds import write_text

CAPABILITY = "general"
_CONSTRAINTS = Field("constraints", "objects", shown=False)
_ENTRY_POINT = Field("entry_point")
_TESTS = Field("tests", "texts", shown=False)
_SETUP = Field("test_setup", default="", allow_empty=True, shown=False)
_FENCE = re.compile(r"```(?:python|py)?[ \t]*\n(?P<code>.*?)\n?```", re.DOTALL | re.IGNORECASE)


def _constraints(row: Row) -> tuple[Constraint, ...]:
    return tuple(constraint_of(value) for value in row.fields["constraints"])


def _check_constraints(row: Row) -> list[str]:
    return [problem for value in row.fields["constraints"] for problem in constraint_problems(value)]


def parse_program(answer: str, row: Row) -> str | None:
    """The last fenced block, or the whole text without one, where it is a Python program that defines what is asked.

    Only its syntax is read; nothing is run.
    """
    blocks = [match["code"] for match in _FENCE.finditer(answer)]
    program = (blocks[-1] if blocks else answer).strip("\n")
    if syntax_problem(program) or row.fields["entry_point"] not in defined_names(program):
        return None
    return program


def _check_program(row: Row) -> list[str]:
    problems = [(f"test {number}", test) for number, test in enumerate(row.fields["tests"], start=1)]
    if _SETUP.value(row).strip():
        problems.append(("field 'test_setup'", _SETUP.value(row)))
    problems.append(("answer", row.answer))
    found = [f"{where} is no Python: {syntax_problem(text)}" for where, text in problems if syntax_problem(text)]
    if not found and row.fields["entry_point"] not in defined_names(row.answer):
        found.append(f"answer defines no {row.fields['entry_point']!r} at its top level (field 'entry_point')")
    return found


INSTRUCTION_FOLLOWING = write_text(
    "instruction_following",
    CAPABILITY,
    {"en": "Instruction: do what it says and keep every condition in it.", "zh": "指令：照做，并遵守其中的每个条件。"},
    (Field("instruction"), _CONSTRAINTS),
    KeptConstraints(),
    {"en": "Reply with the result and nothing else.", "zh": "只回复结果。"},
    reward_kind="pattern",
    reference=_constraints,
    allow_empty_answer=True,
    check=_check_constraints,
    paper="Instruction following (IFEval)",
)

CODE_GENERATION = make_task(
    "code_generation",
    CAPABILITY,
    {
        "en": "Python: write a program that does what the task says and defines {entry_point}.",
        "zh": "编程：用 Python 写出完成任务的程序，其中定义 {entry_point}。",
    },
    (Field("instruction"), _ENTRY_POINT, _TESTS, _SETUP),
    {
        "en": "Reply with the whole program in one ```python block.",
        "zh": "把完整程序写在一个 ```python 代码块里。",
    },
    check=_check_program,
    answer_format="generation",
    reward_kind="sandbox",
    parser=parse_program,
    scorer=UnitTests(),
    formatter=lambda gold, row: f"```python\n{gold}\n```",
    format_rule="a Python program in a ```python block that defines the asked function",
    canonical=lambda row: str(row.answer).strip("\n"),
    reference=lambda row: {
        "tests": list(row.fields["tests"]),
        "test_setup": _SETUP.value(row),
        "entry_point": row.fields["entry_point"],
    },
    paper="Code generation (HumanEval, MBPP, LiveCodeBench)",
)

TASKS = (INSTRUCTION_FOLLOWING, CODE_GENERATION)
