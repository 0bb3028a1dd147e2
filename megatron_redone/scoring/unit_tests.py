"""Programs that unit tests judge. Nothing is run here: without a sandbox a program has no score.

What can be said of a program without running it is its syntax; it is read by `ast`, which builds a tree and
executes nothing.
"""

from __future__ import annotations

import ast
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from megatron_redone.common.errors import SandboxUnavailableError
from megatron_redone.scoring.base import UNREADABLE, Score, mean_value, paired

MAX_PROGRAM_CHARACTERS = 20_000


@dataclass(frozen=True)
class UnitTests:
    """1 where the program passes all its tests in the sandbox, else 0; the aggregate is the share that passes.

    There is no sandbox yet, so a readable program is refused with an error and never run. An unreadable answer
    scores 0, because it would be no program in any sandbox.
    """

    name: str = "unit_tests"

    def score(self, predictions: Sequence[str | None], references: Sequence[Any]) -> list[Score]:
        """0 for each unreadable answer; statistics: `passed`.

        Raises:
            SandboxUnavailableError: there is a program to run.
        """
        programs = [prediction for prediction, _ in paired(predictions, references) if prediction is not None]
        if programs:
            raise SandboxUnavailableError(
                f"{len(programs)} program(s) must be judged by unit tests, and no sandbox is available to run them in;"
                " a model's program is never run outside one. Leave out the rows of such tasks"
                " (`redone tasks list --reward sandbox` names them)"
            )
        return [Score(0.0, parsed=False, statistics={"passed": 0.0}, reason=UNREADABLE) for _ in predictions]

    def aggregate(self, scores: Sequence[Score]) -> float:
        """The mean of the item values."""
        return mean_value(scores)


def syntax_problem(program: str) -> str:
    """Why the text is no Python program ("" if it is one), by its syntax alone."""
    if len(program) > MAX_PROGRAM_CHARACTERS:
        return f"{len(program)} characters, at most {MAX_PROGRAM_CHARACTERS} are read"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an odd escape in a string is the author's business
            tree = ast.parse(program)
    except SyntaxError as error:
        return f"line {error.lineno}: {error.msg}"
    except (ValueError, MemoryError, RecursionError) as error:  # NUL bytes, half characters, nesting too deep
        return f"{type(error).__name__}: {error}"
    return "" if tree.body else "no statement"


def defined_names(program: str) -> set[str]:
    """Functions and classes that a program with valid syntax defines at its top level."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return {node.name for node in ast.parse(program).body if isinstance(node, kinds)}
