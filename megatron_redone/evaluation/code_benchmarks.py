"""HumanEval and MBPP: problems from their published files, programs from answers, and their scores in the sandbox.

A program passes or fails (pass@1 of one completion is the mean of the scores). Everything runs in the sandbox: the
program in one box, the tests in another (`scoring/unit_tests.py`).

Sources: HumanEval, Chen et al. 2021, arXiv 2107.03374; MBPP, Austin et al. 2021, arXiv 2108.07732.
"""

from __future__ import annotations

import ast
import gzip
import json
import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from megatron_redone.common.errors import DataError
from megatron_redone.scoring.base import Score
from megatron_redone.scoring.unit_tests import UnitTests, defined_names, parsed, syntax_problem
from megatron_redone.tasks.base import answer_after_thought

CodeBenchmark = Literal["humaneval", "mbpp"]
_FENCE_LINE = re.compile(r"^\s*```[^\n`]*$", re.MULTILINE)
_FENCE = re.compile(r"```[ \t]*(?:python3?|py)?[ \t]*\r?\n(?P<code>.*?)(?:\n?```|\Z)", re.DOTALL | re.IGNORECASE)
_THOUGHT = re.compile("</?think>")
_MBPP_BLOCK = re.compile(r"\[BEGIN\]\s*\n(?P<code>.*?)(?:\[DONE\]|\Z)", re.DOTALL)


@dataclass(frozen=True)
class CodeProblem:
    """One problem.

    Attributes:
        id: as the benchmark writes it, for example `HumanEval/0` or `mbpp/11`.
        prompt: HumanEval: imports, helpers, and the function up to its docstring, to be continued; MBPP: the task in
            words.
        entry_point: the function that the tests call.
        tests: statements that raise where the program is wrong.
        test_setup: code that runs before the tests, on their side: the program never sees it.
        solution: a program that passes, as the benchmark gives it.
    """

    id: str
    prompt: str
    entry_point: str
    tests: tuple[str, ...]
    test_setup: str
    solution: str

    @property
    def reference(self) -> dict[str, Any]:
        """What `UnitTests` compares with."""
        return {"tests": list(self.tests), "test_setup": self.test_setup, "entry_point": self.entry_point}


def read_problems(benchmark: CodeBenchmark, path: Path) -> list[CodeProblem]:
    """The problems of `HumanEval.jsonl.gz` or `mbpp.jsonl` (packed or plain), in the order of the file.

    Raises:
        DataError: no such file, or a line that is no problem of that benchmark (names file and line).
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file; give the published file of {benchmark}")
    read = _humaneval_problem if benchmark == "humaneval" else _mbpp_problem
    try:
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError) as error:
        raise DataError(f"{path}: cannot be unpacked ({error}); fetch the file again") from error
    problems = []
    for number, line in enumerate(raw.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            problems.append(read(json.loads(line.decode("utf-8"))))
        except (KeyError, TypeError, ValueError, SyntaxError) as error:  # also: no JSON, no UTF-8
            raise DataError(f"{path}:{number}: no problem of {benchmark} ({type(error).__name__}: {error})") from error
    return problems


def extract_program(benchmark: CodeBenchmark, problem: CodeProblem, completion: str) -> str | None:
    """The program in a model's answer; None where there is none. Only syntax is read, nothing is run.

    The last fenced block (for MBPP also `[BEGIN] ... [DONE]`) that defines the entry point is the program; without one,
    the whole text if it defines it, or what stands before or after a fence that has no other half. For HumanEval what
    lies before the function in the prompt (imports, helpers) is put in front, and a text that does not define the
    function continues the prompt: it is cut at the first line that is not indented.
    """
    answer = answer_after_thought(completion) if _THOUGHT.search(completion) else completion
    if answer is None or not answer.strip():
        return None
    blocks = [match["code"] for match in _FENCE.finditer(answer)]
    if benchmark == "mbpp":
        blocks += [match["code"] for match in _MBPP_BLOCK.finditer(answer)]
    header = _header(problem) if benchmark == "humaneval" else ""
    for text in [*reversed(blocks), answer, *_beside_a_fence(answer)]:
        if not syntax_problem(text) and problem.entry_point in defined_names(text):
            return text if syntax_problem(f"{header}{text}") else f"{header}{text}"
    if benchmark == "mbpp":
        return None
    body = blocks[-1] if blocks else answer
    for lines in (_indented_part(body), textwrap.indent(textwrap.dedent(body), "    ")):
        program = f"{problem.prompt.rstrip()}\n{lines}\n"
        if lines.strip() and not syntax_problem(program):
            return program
    return None


def _beside_a_fence(answer: str) -> list[str]:
    """What stands before the first fence and what follows the last one: an answer may open or close it only."""
    marks = list(_FENCE_LINE.finditer(answer))
    return [answer[: marks[0].start()], answer[marks[-1].end() :]] if marks else []


def score_code(benchmark: CodeBenchmark, problems: Sequence[CodeProblem], completions: Sequence[str]) -> list[Score]:
    """One score per problem and completion, in order: 1 where the program passes all tests in the sandbox, else 0.

    Args:
        benchmark: `humaneval` or `mbpp`; how a program is taken from an answer depends on it.
        problems: one for each completion; a problem may stand there more than once (pass@k).
        completions: texts of a model. A text without a program scores 0 with `parsed` False.

    Raises:
        ValueError: the two lengths differ.
        SandboxUnavailableError: no sandbox passes its self-test on this machine.
    """
    programs = [extract_program(benchmark, *pair) for pair in zip(problems, completions, strict=True)]
    return UnitTests().score(programs, [problem.reference for problem in problems])


def _humaneval_problem(row: dict[str, Any]) -> CodeProblem:
    """The prompt's own helpers stand on the tests' side (some checks call them); the program brings its own copy."""
    prompt, entry_point = _text(row, "prompt"), _text(row, "entry_point")
    problem = CodeProblem(
        id=_text(row, "task_id"),
        prompt=prompt,
        entry_point=entry_point,
        tests=(f"{_text(row, 'test')}\ncheck({entry_point})",),
        test_setup=prompt,
        solution=prompt + _text(row, "canonical_solution"),
    )
    if entry_point not in defined_names(problem.solution):
        raise ValueError(f"the prompt does not define {entry_point!r}")
    return problem


def _mbpp_problem(row: dict[str, Any]) -> CodeProblem:
    """The whole file, the sanitized one, and rows with `test` for `test_list`.

    The entry point is the last function of the solution that the tests name.
    """
    solution, tests = (
        _text(row, "code").replace("\r\n", "\n"),
        [str(test) for test in row.get("test_list") or row["test"]],
    )
    setup = _text(row, "test_setup_code") if "test_setup_code" in row else "\n".join(row.get("test_imports", []))
    called = {node.id for node in ast.walk(parsed("\n".join(tests))) if isinstance(node, ast.Name)}
    functions = [node.name for node in parsed(solution).body if isinstance(node, ast.FunctionDef)]
    named = [name for name in functions if name in called]
    if not tests or not named:
        raise ValueError("no test names a function of the solution")
    return CodeProblem(
        id=f"mbpp/{row['task_id']}",
        prompt=_text(row, "text" if "text" in row else "prompt"),
        entry_point=named[-1],
        tests=tuple(tests),
        test_setup=setup.replace("\r\n", "\n"),
        solution=solution,
    )


def _text(row: dict[str, Any], name: str) -> str:
    if not isinstance(row[name], str):
        raise TypeError(f"{name!r} is no text")
    return str(row[name])


def _header(problem: CodeProblem) -> str:
    """What stands in the prompt before the function itself: imports and helpers."""
    nodes = [node for node in parsed(problem.prompt).body if getattr(node, "name", "") == problem.entry_point]
    lines = problem.prompt.splitlines(keepends=True)
    return "".join(lines[: nodes[-1].lineno - 1]) if nodes else ""


def _indented_part(text: str) -> str:
    """The lines up to the first one at the margin; a first line without indentation (cut by a tokenizer) gets it."""
    lines = text.strip("\r\n").splitlines()
    if lines and not lines[0][:1].isspace():
        lines[0] = f"    {lines[0]}"
    kept: list[str] = []
    for line in lines:
        if line.strip() and not line[0].isspace():
            break
        kept.append(line)
    return "\n".join(kept)
