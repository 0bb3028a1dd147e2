"""Programs that unit tests judge, in the sandbox: the program in one box, its tests in another (docs/sandbox.md).

What can be said of a program without running it is its syntax; it is read by `ast`, which builds a tree and
executes nothing.
"""

from __future__ import annotations

import ast
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from megatron_redone.scoring.base import UNREADABLE, Score, mean_value, paired
from megatron_redone.scoring.sandbox.limits import Limits
from megatron_redone.scoring.sandbox.pool import TestedProgram, choose_backend, shared_sandbox

MAX_PROGRAM_CHARACTERS = 20_000


@dataclass(frozen=True)
class UnitTests:
    """1 where the program passes all its tests in the sandbox, else 0; the aggregate is the share that passes.

    A reference is `{"tests": [statements that raise where the program is wrong], "test_setup": code that runs before
    them, "entry_point": the function they call}`; the last two may be absent. Tests and setup run in a box of their
    own; the program sees the arguments of its functions and nothing else. One program with all its tests has
    `wall_seconds`.
    """

    name: str = "unit_tests"
    wall_seconds: float = 10.0

    def score(self, predictions: Sequence[str | None], references: Sequence[Any]) -> list[Score]:
        """One score per program; statistics: `passed`. An unreadable answer (None) scores 0 and is not run.

        Raises:
            SandboxUnavailableError: there is a program to run, and no sandbox is safe on this machine.
        """
        pairs = paired(predictions, references)
        tested = [
            TestedProgram(
                program, list(reference["tests"]), reference.get("test_setup", ""), reference.get("entry_point", "")
            )
            for program, reference in pairs
            if program is not None
        ]
        verdicts = iter(shared_sandbox(Limits(wall_seconds=self.wall_seconds)).test_many(tested) if tested else [])
        scores = []
        for program, _ in pairs:
            if program is None:
                scores.append(Score(0.0, parsed=False, statistics={"passed": 0.0}, reason=UNREADABLE))
                continue
            verdict = next(verdicts)
            value = float(verdict.passed)
            scores.append(Score(value, parsed=True, statistics={"passed": value}, reason=verdict.reason))
        return scores

    def aggregate(self, scores: Sequence[Score]) -> float:
        """The mean of the item values."""
        return mean_value(scores)


def check_sandbox() -> None:
    """Makes sure that programs can be scored here; takes a second the first time.

    Raises:
        SandboxUnavailableError: no sandbox is safe on this machine; the message says what each lacks.
    """
    choose_backend()


def syntax_problem(program: str) -> str:
    """Why the text is no Python program ("" if it is one), by its syntax alone."""
    if len(program) > MAX_PROGRAM_CHARACTERS:
        return f"{len(program)} characters, at most {MAX_PROGRAM_CHARACTERS} are read"
    try:
        tree = parsed(program)
    except SyntaxError as error:
        return f"line {error.lineno}: {error.msg}"
    except (ValueError, MemoryError, RecursionError) as error:  # NUL bytes, half characters, nesting too deep
        return f"{type(error).__name__}: {error}"
    return "" if tree.body else "no statement"


def defined_names(program: str) -> set[str]:
    """Functions and classes that a program with valid syntax defines at its top level."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return {node.name for node in parsed(program).body if isinstance(node, kinds)}


def parsed(program: str) -> ast.Module:
    """The syntax tree, without warnings: an odd escape in a string is the author's business. Raises as `ast.parse`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ast.parse(program)
