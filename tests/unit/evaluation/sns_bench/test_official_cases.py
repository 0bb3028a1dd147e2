"""Scores against the official code on hand-made answers.

official_cases.json holds small sets of rows and answers, one for each quirk, with the score that the official
evaluators of SNS-Bench gave them. They were run unchanged on these rows (rouge 1.0.1, nltk 3.10.4, jieba 0.42.1, demoji
2.0.0), with stubs for what surrounds them: the registries, and the loading of data. Where the authors report the mean
of several parts, so does the file. No text of the benchmark is among them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from megatron_redone.evaluation.benchmark import Metric
from megatron_redone.evaluation.sns_bench.benchmark import METRICS
from megatron_redone.scoring.base import Score, total

CASES: list[dict[str, Any]] = json.loads(Path(__file__).with_name("official_cases.json").read_text(encoding="utf-8"))


def aggregate(metric: Metric, scores: Sequence[Score]) -> dict[str, float]:
    names = {name for score in scores for name in score.statistics}
    sums = {name: np.array([total(scores, name)]) for name in names}
    return {name: float(value[0]) for name, value in metric.aggregate(sums, len(scores)).items()}


def benchmark_score(file: str, rows: Sequence[Mapping[str, Any]], outputs: Sequence[str]) -> dict[str, float]:
    return aggregate(METRICS[file], METRICS[file].score(outputs, rows))


@pytest.mark.parametrize("case", CASES, ids=[f"{case['file']}: {case['case']}" for case in CASES])
def test_the_score_is_that_of_the_official_code(case: dict[str, Any]) -> None:
    found = benchmark_score(case["file"], case["rows"], case["outputs"])["score"]
    assert found == pytest.approx(case["official"], abs=5e-4)


def test_every_file_but_that_of_the_embedder_has_cases() -> None:
    assert {case["file"] for case in CASES} == set(METRICS) - {"Note-QueryGen.json"}


@pytest.mark.parametrize("file", METRICS)
def test_no_answer_ends_the_scoring(file: str) -> None:
    """NUL bytes, half characters, open quotes and brackets without end: scored, each within 0..1."""
    gold = {"Note-MRC-simple.json": ["x y"], "Note-CHLW.json": "['x']", "Note-QueryCorr-topic.json": "1"}
    answer = gold.get(file, '<Result>[{"Option": "x", "Reason": "r"}]</Result>' if "complex" in file else "x")
    row = {"answer": answer, "candidates": "x, y"}
    outputs = ["\0" * 50, "\ud800", "'" * 3001, "[" * 9000, "{" * 9000, "-" * 9000 + "1", "<Result>" * 9000, "['\\"]
    outputs += ["<Result>" + "[" * 9000 + "</Result>", "(" * 150 + ")" * 150, "['" + "x " * 9000 + "']", "1" * 9000]
    scores = METRICS[file].score(outputs, [row] * len(outputs))
    assert len(scores) == len(outputs)
    assert 0 <= aggregate(METRICS[file], scores)["score"] <= 100


def test_an_answer_at_which_the_official_code_stops_earns_no_text_points_and_is_counted() -> None:
    """Emoji or full stops alone end the official ROUGE with an error, as does a walk through 1,000 words."""
    rows = [{"answer": ["The cafe opens at nine and closes at five"]}] * 4
    long = " ".join(f"w{number}" for number in range(1000))
    outputs = ["['😀']", "['...']", repr([long]), repr(rows[0]["answer"])]
    scores = METRICS["Note-MRC-simple.json"].score(outputs, rows)
    assert [score.statistics.get("official_errors", 0.0) for score in scores] == [1, 1, 1, 0]
    assert all("official code stops" in score.reason for score in scores[:3])
    found = aggregate(METRICS["Note-MRC-simple.json"], scores)
    assert found["rouge_1"] == pytest.approx(25.0, abs=1e-4) and found["bleu"] == pytest.approx(25.0, abs=1e-4)
    assert found["existence_f1"] == pytest.approx(100.0, abs=0.02)


def test_a_run_at_which_the_official_code_divides_by_zero_scores_0() -> None:
    some = '<Result>[{"Option": "x", "Reason": "r"}]</Result>'
    none = "<Result>[]</Result>"
    rows = [{"answer": some}, {"answer": none}, {"answer": none}]
    stopped = benchmark_score("Note-MRC-complex.json", rows, [none, some, none])
    assert stopped["score"] == 0.0 and stopped["official_errors"] == 1.0 and stopped["option_em"] > 0
    one_kind_of_error = benchmark_score("Note-MRC-complex.json", rows, [none, none, none])
    assert one_kind_of_error["score"] == pytest.approx(100 * 4 / 9) and one_kind_of_error["official_errors"] == 0.0


def test_items_values_and_reasons_tell_what_was_lost() -> None:
    score = METRICS["Note-NER.json"].score(["Shoes, red"], [{"answer": "red, coat"}])[0]
    assert score.value == 0.5 and score.reason == "missed: 'coat'; wrong: 'Shoes'"
    label = METRICS["Note-Taxonomy-single.json"].score(["Weekend"], [{"answer": "x", "candidates": "x, y"}])[0]
    assert not label.parsed and label.reason == "cut to 'Week', which is no option"
    level = METRICS["Note-QueryCorr-topic.json"].score(["12"], [{"answer": "2"}])[0]
    assert level.reason == "level 1, not 2"
