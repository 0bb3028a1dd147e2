"""HumanEval and MBPP: reading, programs from answers, scores. The problems here are our own, in the same formats."""

from __future__ import annotations

import ast
import gzip
import json
import random
from pathlib import Path

import pytest

from megatron_redone.common.errors import DataError
from megatron_redone.evaluation.code_benchmarks import CodeProblem, extract_program, read_problems, score_code
from megatron_redone.scoring.unit_tests import parsed

HUMANEVAL_ROWS = [
    {
        "task_id": "Own/0",
        "prompt": "import math\n\n\ndef ring(n: int) -> int:\n    return n % 7\n\n\n"
        "def spin(n: int, k: int) -> int:\n"
        '    """Moves n by k places on the ring of seven.\n    >>> spin(6, 2)\n    1\n    """\n',
        "entry_point": "spin",
        "canonical_solution": "    return ring(n + k)\n",
        "test": "def check(candidate):\n    assert candidate(6, 2) == 1\n    for n in range(20):\n"
        "        assert candidate(n, 3) == ring(n + 3)\n",
    },
    {
        "task_id": "Own/1",
        "prompt": "from typing import List, Tuple\n\n\ndef halves(values: List[float]) -> Tuple[float, float]:\n"
        '    """Means of the first and of the second half."""\n',
        "entry_point": "halves",
        "canonical_solution": "    middle = len(values) // 2\n    first, second = values[:middle], values[middle:]\n"
        "    return sum(first) / len(first), sum(second) / len(second)\n",
        "test": "METADATA = {}\n\n\ndef check(candidate):\n    low, high = candidate([1.0, 2.0, 0.1, 0.2])\n"
        "    assert abs(low - 1.5) < 1e-9 and abs(high - 0.15) < 1e-9\n"
        "    assert candidate([1.0, 3.0]) == (1.0, 3.0)\n",
    },
]
MBPP_ROWS = [
    {
        "task_id": 7001,
        "text": "Write a function that keeps the words of a text that hold a digit.",
        "code": "import re\r\ndef digit_words(text):\r\n  return [w for w in text.split() if re.search('[0-9]', w)]",
        "test_setup_code": "",
        "test_list": ["assert digit_words('a b2 3') == ['b2', '3']", "assert digit_words('') == []"],
        "challenge_test_list": [],
    },
    {
        "task_id": 7002,
        "text": "Write a function that counts the leaves of a tree.",
        "code": "class Leaf:\n  pass\nclass Fork:\n  def __init__(self, *parts):\n    self.parts = parts\n"
        "def leaves(tree):\n  return 1 if isinstance(tree, Leaf) else sum(map(leaves, tree.parts))",
        "test_setup_code": "tree = Fork(Leaf(), Fork(Leaf(), Leaf()))",
        "test_list": ["assert leaves(tree) == 3", "assert leaves(Leaf()) == 1"],
        "challenge_test_list": [],
    },
    {"task_id": 7003, "prompt": "Join two sets.", "code": "def join(a, b):\n  return a | b", "test_imports": [],
     "test_list": ["assert join({1}, {2}) == {1, 2}"]},
]  # fmt: skip


@pytest.fixture
def humaneval(tmp_path: Path) -> list[CodeProblem]:
    path = tmp_path / "own.jsonl.gz"
    path.write_bytes(gzip.compress("\n".join(map(json.dumps, HUMANEVAL_ROWS)).encode()))
    return read_problems("humaneval", path)


@pytest.fixture
def mbpp(tmp_path: Path) -> list[CodeProblem]:
    path = tmp_path / "own.jsonl"
    path.write_text("\n".join(map(json.dumps, MBPP_ROWS)), encoding="utf-8")
    return read_problems("mbpp", path)


def test_forms_of_an_answer_to_humaneval(humaneval: list[CodeProblem]) -> None:
    problem, body = humaneval[0], "    return ring(n + k)\n"
    whole = problem.prompt + body
    own = "def spin(n, k):\n    return ring(n + k)"
    for answer in (
        body,
        body + "\n\ndef other():\n    pass\nprint(spin(1, 2))",
        body.lstrip(),
        f"Here it is:\n```python\n{own}\n```\nDone.",
        f"```python\nprint(1)\n```\nthen\n```py\n{own}\n```",
        f"```\n{body}```",
        f"```python\n{own}",
        f"{own}\n```\nThis adds k.",
        whole,
        own,
        f"<think>\n```python\ndef spin(n, k): return 0\n```\n</think>\n```python\n{own}\n```",
    ):
        program = extract_program("humaneval", problem, answer)
        assert program is not None and "def ring" in program, answer
        assert [node.name for node in ast.parse(program).body if isinstance(node, ast.FunctionDef)][-1] == "spin"
    for answer in ("", "   ", "I cannot do that!", "<think> open", "```python\ndef spin(:\n```"):
        assert extract_program("humaneval", problem, answer) is None, answer


def test_forms_of_an_answer_to_mbpp(mbpp: list[CodeProblem]) -> None:
    own = "def join(a, b):\n    return a | b"
    for answer in (own, f"```python\n{own}\n```", f"[BEGIN]\n{own}\n[DONE]", f"Sure.\n```\n{own}\n```\nIt joins."):
        assert (extract_program("mbpp", mbpp[2], answer) or "").strip() == own
    assert extract_program("mbpp", mbpp[2], "def unite(a, b): return a | b") is None


def test_right_and_wrong_programs(sandbox_backend: str, humaneval: list[CodeProblem], mbpp: list[CodeProblem]) -> None:
    right = [problem.solution[len(problem.prompt) :] for problem in humaneval]
    wrong = ["    return ring(n - k)", "    return (1.0, 3.0)"]
    scores = score_code("humaneval", humaneval * 2, right + wrong)
    assert [score.value for score in scores] == [1.0, 1.0, 0.0, 0.0]
    right = [f"```python\n{problem.solution}\n```" for problem in mbpp]
    assert [score.value for score in score_code("mbpp", mbpp, right)] == [1.0] * 3
    odd = ["\0", "\ud800", "x" * 1_000_000]
    assert [(score.value, score.parsed) for score in score_code("mbpp", mbpp, odd)] == [(0.0, False)] * 3
    with pytest.raises(ValueError, match=r"shorter|longer"):
        score_code("mbpp", mbpp, [])


def test_broken_files_are_refused_by_line(tmp_path: Path) -> None:
    path = tmp_path / "broken.jsonl"
    good = json.dumps(MBPP_ROWS[2])
    changes = [{"code": "def f(:"}, {"code": 3}, {"test_list": ["assert True"]}, {"test_list": None}]
    for line in (
        "{",
        "[]",
        '{"task_id": 1}',
        "\udcff",
        *(json.dumps({**MBPP_ROWS[2], **change}) for change in changes),
    ):
        path.write_bytes(f"{good}\n\n{line}".encode("utf-8", "surrogateescape"))
        with pytest.raises(DataError, match=r"broken.jsonl:3: no problem of mbpp"):
            read_problems("mbpp", path)
    with pytest.raises(DataError, match=r"no such file"):
        read_problems("humaneval", tmp_path / "none.jsonl.gz")
    (tmp_path / "cut.gz").write_bytes(gzip.compress(b"{}")[:-4])
    with pytest.raises(DataError, match=r"cannot be unpacked"):
        read_problems("humaneval", tmp_path / "cut.gz")


REAL = {"humaneval": "humaneval/HumanEval.jsonl.gz", "mbpp": "mbpp/mbpp.jsonl"}


@pytest.mark.slow
@pytest.mark.parametrize("benchmark", ["humaneval", "mbpp"])
def test_every_published_solution_passes(benchmark: str, real_data: Path, sandbox_backend: str) -> None:
    problems = read_problems(benchmark, real_data / REAL[benchmark])  # type: ignore[arg-type]
    answers = [problem.solution.removeprefix(problem.prompt) for problem in problems]
    scores = score_code(benchmark, problems, answers)  # type: ignore[arg-type]
    failed = {problem.id: score.reason for problem, score in zip(problems, scores, strict=True) if not score.value}
    assert failed == {}


@pytest.mark.slow
@pytest.mark.parametrize(("benchmark", "least"), [("humaneval", 0.85), ("mbpp", 0.8)])
def test_most_mutated_solutions_fail(benchmark: str, least: float, real_data: Path, sandbox_backend: str) -> None:
    """One operator or constant is changed; what the tests do not see passes, so a rate is stated."""
    problems = read_problems(benchmark, real_data / REAL[benchmark])  # type: ignore[arg-type]
    mutated = [(problem, mutate(problem.solution, problem.entry_point, n)) for n, problem in enumerate(problems)]
    pairs = [(problem, program) for problem, program in mutated if program is not None]
    scores = score_code(benchmark, [problem for problem, _ in pairs], [program for _, program in pairs])  # type: ignore[arg-type]
    rate = sum(score.value == 0.0 for score in scores) / len(scores)
    print(f"{benchmark}: {len(scores)} mutated solutions, {rate:.3f} fail")
    assert len(pairs) > 0.7 * len(problems) and rate > least


def mutate(program: str, entry_point: str, seed: int) -> str | None:
    """The program with one operator or number of the entry point changed; None where there is none."""
    swaps = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Add, ast.Lt: ast.GtE, ast.Gt: ast.LtE, ast.LtE: ast.Gt,
             ast.GtE: ast.Lt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.And: ast.Or, ast.Or: ast.And}  # fmt: skip
    tree = parsed(program)
    function = [node for node in tree.body if getattr(node, "name", "") == entry_point][-1]
    places = []
    for node in ast.walk(function):
        if isinstance(node, ast.BinOp | ast.BoolOp) and type(node.op) in swaps:
            places.append((node, "op", swaps[type(node.op)]()))
        elif isinstance(node, ast.Compare) and type(node.ops[0]) in swaps:
            places.append((node, "ops", [swaps[type(node.ops[0])](), *node.ops[1:]]))
        elif isinstance(node, ast.Constant) and type(node.value) is int:
            places.append((node, "value", node.value + 1))
    if not places:
        return None
    node, name, value = random.Random(seed).choice(places)
    setattr(node, name, value)
    return ast.unparse(tree)
