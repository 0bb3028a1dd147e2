"""Scores of answers on a benchmark, with intervals and with the baselines beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np
import numpy.typing as npt

from megatron_redone.common.seeding import derive_seed
from megatron_redone.evaluation.baselines import baseline_outputs
from megatron_redone.evaluation.benchmark import Benchmark, Metric, Metrics, Row
from megatron_redone.evaluation.results import BaselineScores, BenchmarkResult, ItemScore
from megatron_redone.scoring.base import Score
from megatron_redone.scoring.statistics import bootstrap_sums, wilson_interval

NUM_RESAMPLES = 2000
DIGITS = 4


@dataclass(frozen=True)
class Answered:
    """A file of the benchmark with the answers to its first rows.

    Attributes:
        rows: all rows of the file.
        outputs: answers to the first of them, in order.
    """

    rows: Sequence[Row]
    outputs: Sequence[str]

    @property
    def scored(self) -> Sequence[Row]:
        """The rows that have answers."""
        return self.rows[: len(self.outputs)]


def score_benchmark(
    benchmark: Benchmark,
    answered: Mapping[str, Answered],
    *,
    label: str,
    settings: Mapping[str, Any],
    notes: Sequence[str] = (),
) -> tuple[BenchmarkResult, dict[str, list[Score]]]:
    """The result, and the score of every answer by file.

    Args:
        answered: by file, in any order; files that are absent are named as missing.
        label: what answered.
        settings, notes: go into the result, before those of the benchmark.
    """
    scores = {
        file: task.metric.score(answered[file].outputs, answered[file].scored)
        for file, task in benchmark.tasks.items()
        if file in answered
    }
    resamples = {file: _resampled(benchmark.tasks[file].metric, file, of_file) for file, of_file in scores.items()}
    totals = {file: _totals(benchmark.tasks[file].metric, of_file) for file, of_file in scores.items()}
    points = {file: values["score"] for file, values in totals.items()}
    groups = benchmark.groups(points)
    overall = np.mean(list(benchmark.groups(resamples).values()), axis=0)
    score = _mean(groups)
    missing = [file for file in benchmark.tasks if file not in answered]
    result = BenchmarkResult(
        benchmark=benchmark.name,
        label=label,
        score=_round(score),
        interval=_interval(overall, score),
        score_rule=benchmark.score_rule + _said_of_missing(missing, groups),
        groups=_rounded(groups),
        tasks={file: _task_result(totals[file], resamples[file], of_file) for file, of_file in scores.items()},
        baselines=_baselines(benchmark, answered),
        missing=tuple(missing),
        notes=(*notes, *benchmark.notes),
        settings={**settings, **benchmark.settings, "num_resamples": NUM_RESAMPLES},
    )
    return result, scores


def item_scores(scores: Mapping[str, Sequence[Score]]) -> list[ItemScore]:
    """The lines of scores.jsonl."""
    return [
        ItemScore(file, index, score.value, score.parsed, dict(score.statistics))
        for file, of_file in scores.items()
        for index, score in enumerate(of_file)
    ]


def bootstrap_seed(file: str) -> int:
    """The seed of a task's resamples: the same for every model, so that they can be compared row by row."""
    return derive_seed("benchmark", file)


def _matrix(scores: Sequence[Score]) -> tuple[list[str], npt.NDArray[np.float64]]:
    """Names of the statistics, and their values [items, statistics]."""
    names = sorted({name for score in scores for name in score.statistics})
    values = [[score.statistics.get(name, 0.0) for name in names] for score in scores]
    return names, np.asarray(values, dtype=np.float64).reshape(len(scores), len(names))


def _totals(metric: Metric, scores: Sequence[Score]) -> dict[str, Any]:
    names, values = _matrix(scores)
    sums = {name: values[:, [place]].sum(axis=0) for place, name in enumerate(names)}
    return {name: value[0] for name, value in metric.aggregate(sums, len(scores)).items()}


def _resampled(metric: Metric, file: str, scores: Sequence[Score]) -> npt.NDArray[np.float64]:
    names, values = _matrix(scores)
    sums = bootstrap_sums(values, bootstrap_seed(file), NUM_RESAMPLES)
    found: Metrics = metric.aggregate({name: sums[:, place] for place, name in enumerate(names)}, len(scores))
    return np.broadcast_to(found["score"], (NUM_RESAMPLES,))


def _task_result(
    values: Mapping[str, float], resamples: npt.NDArray[np.float64], scores: Sequence[Score]
) -> dict[str, Any]:
    low, high = _interval(resamples, values["score"])
    right = [score.value for score in scores]
    if set(right) <= {0.0, 1.0} and np.isclose(100 * fmean(right), values["score"]):
        low, high = (_round(100 * border) for border in wilson_interval(int(sum(right)), len(right)))
    stopped = sum(score.statistics.get("official_errors", 0.0) for score in scores)
    parts = {name: _round(value) for name, value in values.items() if name != "official_errors"}
    return {
        **parts,
        "interval": [low, high],
        "num_rows": len(scores),
        "parse_rate": _round(fmean(score.parsed for score in scores)),
        "official_errors": int(stopped + values.get("official_errors", 0.0)),
    }


def _baselines(benchmark: Benchmark, answered: Mapping[str, Answered]) -> dict[str, BaselineScores]:
    points: dict[str, dict[str, Any]] = {}
    for file, task in benchmark.tasks.items():
        if file not in answered:
            continue
        of_file = answered[file]
        for name, outputs in baseline_outputs(task, of_file.rows, len(of_file.outputs)).items():
            scores = task.metric.score(outputs, of_file.scored)
            points.setdefault(name, {})[file] = _totals(task.metric, scores)["score"]
    return {
        name: BaselineScores(
            score=_round(_mean(benchmark.groups(of_name))),
            groups=_rounded(benchmark.groups(of_name)),
            tasks=_rounded(of_name),
        )
        for name, of_name in points.items()
    }


def _mean(groups: Mapping[str, Any]) -> float:
    return fmean(float(value) for value in groups.values())


def _interval(resamples: npt.NDArray[np.float64], score: float) -> tuple[float, float]:
    low, high = np.quantile(resamples, [0.025, 0.975])
    return _round(min(low, score)), _round(max(high, score))


def _said_of_missing(missing: Sequence[str], groups: Mapping[str, Any]) -> str:
    if not missing:
        return ""
    return f". Only what is there counts ({len(groups)} task(s)); missing: {', '.join(missing)}"


def _rounded(values: Mapping[str, Any]) -> dict[str, float]:
    return {name: _round(value) for name, value in values.items()}


def _round(value: Any) -> float:
    return round(float(value), DIGITS)
