"""The result of a General-Bench run: the average, groups by capability, intervals, what is missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from megatron_redone.common.seeding import derive_seed
from megatron_redone.evaluation.general.benchmarks import BENCHMARKS, Selection
from megatron_redone.evaluation.general.metrics import corpus_bleu
from megatron_redone.evaluation.general.run import TaskOutcome, mean_of_benchmarks
from megatron_redone.evaluation.results import BenchmarkResult, Failure
from megatron_redone.scoring.statistics import bootstrap_sums, wilson_interval

NAME = "general-bench"
NUM_RESAMPLES = 2000
FAILURES_PER_TASK, MAX_CHARACTERS = 10, 20_000

NOTES = (
    "The papers print one General-Bench average and tell neither its formula nor prompts, shots and parts of the data: "
    "figures from here compare models run here, not with the papers' tables.",
    "HumanEval and MBPP programs ran in the sandbox; one greedy answer a problem is pass@1.",
)


def benchmark_result(
    outcomes: Mapping[str, TaskOutcome],
    missing: Mapping[str, str],
    selection: Selection,
    *,
    label: str,
    settings: Mapping[str, Any],
) -> BenchmarkResult:
    """results.json: scores in 0..100."""
    resamples = {name: _resampled(outcome) for name, outcome in outcomes.items()}
    scores = {name: outcome.score for name, outcome in outcomes.items()}
    score = mean_of_benchmarks(scores)
    whole = np.mean([resamples[name] for name in outcomes], axis=0)
    rule = f"plain mean of {len(scores)} benchmark(s) of {selection.name}"
    notes = [f"Missing, and not in the mean: {title} ({reason})." for title, reason in missing.items()]
    if settings.get("limit"):
        notes.append(f"Only the first {settings['limit']} rows of each task are scored (--limit).")
    return BenchmarkResult(
        benchmark=NAME,
        label=label,
        score=_round(score),
        interval=_around(score, whole),
        score_rule=rule + (f"; missing: {', '.join(missing)}" if missing else ""),
        groups=_groups(scores, selection),
        tasks={name: _task(outcome, resamples[name]) for name, outcome in outcomes.items()},
        baselines={},
        missing=tuple(missing),
        notes=(*notes, *NOTES),
        settings={
            **settings,
            "metrics": {name: outcome.metric for name, outcome in outcomes.items()},
            "num_fewshot": {name: outcome.num_fewshot for name, outcome in outcomes.items()},
            "num_resamples": NUM_RESAMPLES,
        },
    )


def failures(outcomes: Mapping[str, TaskOutcome]) -> list[Failure]:
    """Ten rows a task that earned the least; among equals a choice by hash, the same for every model."""
    found = []
    for name, outcome in outcomes.items():
        order = sorted(
            (item.value, derive_seed("failures", name, item.index), place)
            for place, item in enumerate(outcome.items)
            if item.value < 1.0
        )
        for value, _, place in order[:FAILURES_PER_TASK]:
            said = outcome.outputs[place]
            found.append(
                Failure(
                    file=name,
                    index=said["index"],
                    value=round(value, 4),
                    reason=said["reason"],
                    prompt=said["prompt"][:MAX_CHARACTERS],
                    output=said["output"][:MAX_CHARACTERS],
                    gold=said["gold"][:MAX_CHARACTERS],
                )
            )
    return found


def _groups(scores: Mapping[str, float], selection: Selection) -> dict[str, float]:
    """By capability the plain mean of its benchmarks that ran; what the harness itself brings is a group of its own."""
    groups = {}
    for group, names in selection.groups.items():
        if there := [scores[name] for name in names if name in scores]:
            groups[group] = _round(sum(there) / len(there))
    if others := [score for name, score in scores.items() if name not in BENCHMARKS]:
        groups["lm-evaluation-harness"] = _round(sum(others) / len(others))
    return groups


def _task(outcome: TaskOutcome, resamples: npt.NDArray[np.float64]) -> dict[str, Any]:
    values = [item.value for item in outcome.items]
    interval = _around(outcome.score, resamples)
    if set(values) <= {0.0, 1.0} and np.isclose(100 * np.mean(values), outcome.score):
        low, high = wilson_interval(int(sum(values)), len(values))
        interval = (_round(100 * low), _round(100 * high))
    parts = {name: _round(100 * value) for name, value in outcome.metrics.items()}
    return {
        **parts,
        "score": _round(outcome.score),
        "interval": list(interval),
        "num_rows": len(values),
        "parse_rate": _round(float(np.mean([item.parsed for item in outcome.items]))),
        "official_errors": 0,
    }


def _resampled(outcome: TaskOutcome) -> npt.NDArray[np.float64]:
    """Scores [NUM_RESAMPLES] of resampled rows."""
    seed = derive_seed("benchmark", outcome.name)
    if outcome.metric != "corpus_bleu":
        values = np.array([[item.value] for item in outcome.items])
        return 100 * bootstrap_sums(values, seed, NUM_RESAMPLES)[:, 0] / len(values)
    names = sorted(name for name in outcome.items[0].statistics if name.startswith("bleu_"))
    counts = np.array([[item.statistics[name] for name in names] for item in outcome.items])
    sums: Sequence[Sequence[float]] = bootstrap_sums(counts, seed, NUM_RESAMPLES).tolist()
    return np.array([100 * corpus_bleu([dict(zip(names, row, strict=True))]) for row in sums])


def _around(score: float, resamples: npt.NDArray[np.float64]) -> tuple[float, float]:
    low, high = np.quantile(resamples, [0.025, 0.975])
    return _round(min(float(low), score)), _round(max(float(high), score))


def _round(value: float) -> float:
    return round(float(value), 4)
