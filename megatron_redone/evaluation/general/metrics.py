"""Metrics of the general tasks, called by their YAML files; the scorers are those that reward in training.

A function takes the row and the answers to it (one, after filters) and returns its metrics in 0..1.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from megatron_redone.evaluation.code_benchmarks import CodeBenchmark, score_code
from megatron_redone.evaluation.general.ifeval import instruction_scores
from megatron_redone.scoring.base import Score
from megatron_redone.scoring.exact_match import same
from megatron_redone.scoring.mathematics import MathMatch, extract_answer
from megatron_redone.scoring.text_metrics import BleuChrf

Row = Mapping[str, Any]

_AFTER_MARK = re.compile(r"#### (-?[0-9.,]+)")
_ANY_NUMBER = re.compile(r"-?[$0-9.,]{2,}|-?[0-9]+")
_CLUTTER = re.compile(r"[,$]|\.$")
_ANSWER_IS = re.compile(r"answer is:?\s*", re.IGNORECASE)


def mathematics(row: Row, answers: Sequence[str]) -> dict[str, float]:
    """`math_match`: the last boxed value or the last number has the gold's value (`scoring/mathematics.py`)."""
    return {"math_match": MathMatch().score([extract_answer(answers[0])], [row["gold"]])[0].value}


def gsm8k(row: Row, answers: Sequence[str]) -> dict[str, float]:
    """`math_match`, and beside it the two rules of the harness's own GSM8K task.

    `strict_match` reads the first number after `####`, `flexible_extract` the last number of any form; both compare
    texts, without commas, dollar signs and a full stop at the end.
    """
    marked = _AFTER_MARK.search(answers[0])
    numbers = _ANY_NUMBER.findall(answers[0])
    gold = _bare(row["answer"].rpartition("#### ")[2])
    return {
        **mathematics(row, answers),
        "strict_match": float(marked is not None and _bare(marked[1]) == gold),
        "flexible_extract": float(bool(numbers) and _bare(numbers[-1]) == gold),
    }


def _bare(number: str) -> str:
    return _CLUTTER.sub("", number).casefold().strip()


def short_answer(row: Row, answers: Sequence[str]) -> dict[str, float]:
    """`exact_match` of the first line after the last "answer is", else of the whole answer, after `normalise.loose`."""
    found = [match.end() for match in _ANSWER_IS.finditer(answers[0])]
    answer = answers[0][found[-1] :].strip().split("\n")[0] if found else answers[0]
    return {"exact_match": float(same(answer, row["target"]))}


def translation(row: Row, answers: Sequence[str]) -> dict[str, Any]:
    """`corpus_bleu`: what it sums up; `sentence_bleu` and `chrf2` of the answer."""
    language = _code_of(row["target_language"])
    score = BleuChrf(language).score([answers[0].strip()], [row["target"]])[0]
    return {
        "corpus_bleu": dict(score.statistics),
        "sentence_bleu": score.statistics["bleu"],
        "chrf2": score.statistics["chrf"],
    }


def corpus_bleu(items: Sequence[Mapping[str, float]]) -> float:
    """Corpus BLEU of all rows, in 0..1; sacrebleu's tokenizer of the target language has cut the sentences."""
    return BleuChrf("en").corpus_bleu([Score(0.0, True, statistics) for statistics in items])


def _code_of(language: str) -> str:
    return "zh" if language.strip().casefold() in ("zh", "chinese", "simplified chinese", "中文") else "en"


def instructions(row: Row, answers: Sequence[str]) -> dict[str, Any]:
    """IFEval's four figures: all instructions of the prompt kept, and each of them; strictly, and loosely."""
    strict, loose = instruction_scores(answers[0], row["constraints"])
    return {
        "prompt_level_strict": float(all(strict)),
        "instruction_level_strict": strict,
        "prompt_level_loose": float(all(loose)),
        "instruction_level_loose": loose,
    }


def mean_of_all(items: Sequence[Sequence[bool]]) -> float:
    """The share of true values in all lists together."""
    values = [value for item in items for value in item]
    return sum(values) / len(values) if values else 0.0


def humaneval_programs(responses: Sequence[Sequence[str]], rows: Sequence[Row]) -> list[list[Score]]:
    """A filter of the harness: the score of every answer, from one run of the sandbox over all of them."""
    return _programs("humaneval", responses, rows)


def mbpp_programs(responses: Sequence[Sequence[str]], rows: Sequence[Row]) -> list[list[Score]]:
    """As `humaneval_programs`."""
    return _programs("mbpp", responses, rows)


def _programs(benchmark: CodeBenchmark, responses: Sequence[Sequence[str]], rows: Sequence[Row]) -> list[list[Score]]:
    flat = [(row["problem"], text) for row, texts in zip(rows, responses, strict=True) for text in texts]
    scores = iter(score_code(benchmark, [problem for problem, _ in flat], [text for _, text in flat]))
    return [[next(scores) for _ in texts] for texts in responses]


def program(row: Row, scores: Sequence[Score]) -> dict[str, float]:
    """`pass_at_1` of the score that the sandbox gave."""
    return {"pass_at_1": scores[0].value}
