"""Rows of general benchmarks from local files, checked, in the form that lm-evaluation-harness takes documents.

Each function here is a task's `custom_dataset`: it reads the files of one benchmark below the folder of data. The
`datasets` library, its cache and any hub are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from megatron_redone.common.errors import DataError
from megatron_redone.common.jsonl import read_jsonl
from megatron_redone.data.conversation import check_unicode
from megatron_redone.evaluation.code_benchmarks import CodeBenchmark, CodeProblem, read_problems
from megatron_redone.evaluation.general.benchmarks import BENCHMARKS
from megatron_redone.scoring.constraints import constraint_of
from megatron_redone.scoring.ifeval_constraints import ifeval_constraints
from megatron_redone.scoring.mathematics import extract_answer

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
Row = dict[str, Any]


class Documents(list[Row]):
    """Rows with the names of their fields, as the harness asks for them."""

    @property
    def features(self) -> dict[str, Any]:
        """By field of the first row its value."""
        return dict(self[0])


def questions_with_solutions(data: str, benchmark: str, **_: Any) -> dict[str, Documents]:
    """GSM8K, MATH500, AIME: `question` (or `problem`) and `answer`; the gold value is boxed or the last number of it.

    GSM8K's training file, where it is there, gives examples.
    """

    def read(row: Mapping[str, Any]) -> Row:
        question = _text(row, "question" if "question" in row else "problem")
        answer = row["answer"] if isinstance(row["answer"], str) else str(row["answer"])
        gold = extract_answer(answer.rpartition("####")[2])
        if gold is None:
            raise ValueError("the answer holds no number and no boxed value")
        return {"question": question, "answer": answer, "gold": gold}

    return _splits(data, benchmark, read, examples="train.jsonl")


def multiple_choice(data: str, benchmark: str, **_: Any) -> dict[str, Documents]:
    """`question`, `choices` (two or more) and `answer` (an index from 0, or a letter); examples from `dev.jsonl`."""

    def read(row: Mapping[str, Any]) -> Row:
        choices = row["choices"]
        if not isinstance(choices, list) or not 2 <= len(choices) <= len(LETTERS):
            raise ValueError(f"choices must be a list of 2 to {len(LETTERS)} texts")
        answer = row["answer"]
        index = LETTERS.find(answer.strip().upper()) if isinstance(answer, str) and len(answer.strip()) == 1 else answer
        if type(index) is not int or not 0 <= index < len(choices):
            raise ValueError(f"answer {answer!r} is none of the {len(choices)} choices")
        listed = "\n".join(f"{LETTERS[place]}. {choice}" for place, choice in enumerate(choices))
        return {
            "question": _text(row, "question"),
            "listed": listed,
            "letters": list(LETTERS[: len(choices)]),
            "gold": index,
        }

    return _splits(data, benchmark, read, examples="dev.jsonl")


def short_answers(data: str, benchmark: str, **_: Any) -> dict[str, Documents]:
    """`input` and `target` (BBH); examples from `dev.jsonl`."""
    return _splits(
        data,
        benchmark,
        lambda row: {"input": _text(row, "input"), "target": _text(row, "target")},
        examples="dev.jsonl",
    )


def translations(data: str, benchmark: str, **_: Any) -> dict[str, Documents]:
    """`source`, `target`, `source_language`, `target_language` (names of languages, such as English)."""
    names = ("source", "target", "source_language", "target_language")
    return _splits(data, benchmark, lambda row: {name: _text(row, name) for name in names})


def instructions(data: str, benchmark: str, **_: Any) -> dict[str, Documents]:
    """IFEval: `key`, `prompt`, `instruction_id_list`, `kwargs`; with our constraints."""

    def read(row: Mapping[str, Any]) -> Row:
        constraints = ifeval_constraints(row["instruction_id_list"], row["kwargs"])
        for constraint in constraints:
            constraint_of(constraint)
        return {"key": row["key"], "prompt": _text(row, "prompt"), "constraints": constraints}

    return _splits(data, benchmark, read)


def humaneval(data: str, benchmark: str, **_: Any) -> dict[str, Documents]:
    """HumanEval.jsonl.gz as it is published."""
    return {"test": _code("humaneval", Path(data) / BENCHMARKS[benchmark].file)}


def mbpp(data: str, benchmark: str, **_: Any) -> dict[str, Documents]:
    """mbpp.jsonl as it is published: the test problems are those with `task_id` 11 to 510, 2 to 4 give examples."""
    problems = _code("mbpp", Path(data) / BENCHMARKS[benchmark].file)
    number = {row["id"]: int(row["id"].rpartition("/")[2]) for row in problems}
    chosen = Documents(row for row in problems if 11 <= number[row["id"]] <= 510)
    if not chosen:
        raise DataError(f"{Path(data) / BENCHMARKS[benchmark].file}: no problem of the test part (task_id 11 to 510)")
    return {"test": chosen, "train": Documents(row for row in problems if 2 <= number[row["id"]] <= 4)}


def _code(name: CodeBenchmark, path: Path) -> Documents:
    def row(problem: CodeProblem) -> Row:
        shown = "\n".join(problem.tests)
        return {"id": problem.id, "prompt": problem.prompt, "shown_tests": shown, "problem": problem}

    return _filled(path, (row(problem) for problem in read_problems(name, path)))


def _splits(
    data: str, benchmark: str, read: Callable[[Mapping[str, Any]], Row], examples: str = ""
) -> dict[str, Documents]:
    path = Path(data) / BENCHMARKS[benchmark].file
    splits = {"test": _filled(path, _rows(path, read))}
    beside = path.with_name(examples) if examples else None
    splits["train"] = _filled(beside, _rows(beside, read)) if beside is not None and beside.is_file() else Documents()
    return splits


def _rows(path: Path, read: Callable[[Mapping[str, Any]], Row]) -> Iterable[Row]:
    for number, line in read_jsonl(path):
        try:
            yield read(line)
        except DataError as error:
            raise DataError(f"{path}:{number}: {error}") from error
        except KeyError as error:
            raise DataError(
                f"{path}:{number}: field {error.args[0]!r} is missing; see docs/general_bench.md"
            ) from error
        except (TypeError, ValueError) as error:
            raise DataError(f"{path}:{number}: {error}; see docs/general_bench.md") from error


def _filled(path: Path, rows: Iterable[Row]) -> Documents:
    documents = Documents(rows)
    if not documents:
        raise DataError(f"{path}: no rows; give the file of the benchmark")
    return documents


def _text(row: Mapping[str, Any], name: str) -> str:
    value = row[name]
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"field {name!r} is no text")
    check_unicode(value, f"field {name!r}")
    return value
