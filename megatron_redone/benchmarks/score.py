"""Speed of scoring: answers a second by task, in this process and over several, and its share of an RL step.

Answers are the gold ones and, in turn, wrong ones made of them (another row's answer, half of it, nothing), so that
scorers take all their ways.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from megatron_redone.common.errors import InputError
from megatron_redone.scoring.config import ScoringConfig
from megatron_redone.tasks.base import Row
from megatron_redone.tasks.catalogue import get_task
from megatron_redone.tasks.examples import examples
from megatron_redone.tasks.reading import read_rows
from megatron_redone.tasks.scoring import Scoring

MEASURED_TASKS = {
    "exact match": "note_taxonomy_single",
    "set F1": "hashtag_multiple",
    "levels": "query_note_relevance",
    "BLEU and chrF2": "note_translation_zh_en",
    "ANLS": "post_view_search",
    "reading in blocks": "mrc_complex",
    "mathematics": "mathematics",
    "constraints": "instruction_following",
    "faithful rewrite": "title_rewrite",
}
ROLLOUT_STAGE = "explore.seed*"


@dataclass(frozen=True)
class Rate:
    """Answers a second of one scorer."""

    scorer: str
    task: str
    num_workers: int
    answers: int
    per_second: float
    """Median of the rounds."""
    slowest: float
    fastest: float


def measure_rates(
    num_answers: int, workers: Sequence[int], rounds: int, tell: Callable[[str], None] = lambda text: None
) -> list[Rate]:
    """Every scorer with every number of processes (0: in this one); processes stand before the time runs."""
    found = []
    for num_workers in workers:
        with Scoring(ScoringConfig(num_workers=num_workers, deadline_seconds=120.0)) as scoring:
            for scorer, task in MEASURED_TASKS.items():
                texts, rows = answers_of([row for (name, _), row in examples().items() if name == task], num_answers)
                scoring.score(texts[: 8 * max(num_workers, 1)], rows[: 8 * max(num_workers, 1)])  # imports, caches
                rates = []
                for _ in range(rounds):
                    began = time.perf_counter()
                    scoring.score(texts, rows)
                    rates.append(num_answers / (time.perf_counter() - began))
                rate = Rate(scorer, task, num_workers, num_answers, statistics.median(rates), min(rates), max(rates))
                tell(f"{scorer}, {num_workers} processes: {rate.per_second:,.0f} answers/s")
                found.append(rate)
    return found


def answers_of(rows: Sequence[Row], count: int) -> tuple[list[str], list[Row]]:
    """`count` answers to the rows in turn: gold, another row's, half of the gold, nothing."""
    gold = [get_task(row.task).target(row) for row in rows]
    texts, chosen = [], []
    for number in range(count):
        place = number % len(rows)
        kinds = (gold[place], gold[(place + 1) % len(rows)] + str(number), gold[place][: len(gold[place]) // 2], "")
        texts.append(kinds[number // len(rows) % len(kinds)])
        chosen.append(rows[place])
    return texts, chosen


@dataclass(frozen=True)
class StepShare:
    """What scoring takes of a step of reinforcement learning."""

    answers: int
    scoring_seconds: float
    """Of the answers of one rollout, in one process; median."""
    step_seconds: float
    """Median of the steps of the run."""

    @property
    def share(self) -> float:
        """Scoring over the step, which contains it."""
        return self.scoring_seconds / self.step_seconds


def measure_step_share(run: Path, answers: int, rounds: int) -> StepShare:
    """Scoring the answers of a rollout against the steps of a recipe's exploration that were run here.

    Args:
        run: folder of a run of a recipe with stages `explore_set` and `explore`.

    Raises:
        InputError: there is no such stage in it.
    """
    timings = sorted(run.glob(f"{ROLLOUT_STAGE}/timing.jsonl"))
    rows_file = run / "explore_set" / "rows.jsonl"
    if not timings or not rows_file.is_file():
        raise InputError(f"--run {run}: no exploration that is done stands there; run examples/quickstart first")
    seconds = [json.loads(line)["seconds"] for path in timings for line in path.read_text("utf-8").splitlines()]
    rows = list(read_rows(rows_file).rows)
    texts, chosen = answers_of(rows, answers)
    taken = []
    for _ in range(rounds):
        began = time.perf_counter()
        Scoring().score(texts, chosen)
        taken.append(time.perf_counter() - began)
    return StepShare(answers, statistics.median(taken), statistics.median(seconds))


def measure_sns_bench(folder: Path, rounds: int) -> dict[str, float]:
    """Seconds of scoring SNS-Bench's gold answers without an embedder, with baselines and intervals; median."""
    from megatron_redone.evaluation.benchmark_data import read_benchmark
    from megatron_redone.evaluation.benchmark_scoring import Answered, score_benchmark
    from megatron_redone.evaluation.sns_bench.benchmark import sns_bench

    benchmark = sns_bench(None, "none")
    rows = read_benchmark(folder, benchmark)
    taken = []
    for _ in range(rounds):
        began = time.perf_counter()
        answered = {
            file: Answered(of_file, [benchmark.tasks[file].gold_text(row) for row in of_file])
            for file, of_file in rows.items()
        }
        score_benchmark(benchmark, answered, label="gold", settings={})
        taken.append(time.perf_counter() - began)
    return {"rows": float(sum(map(len, rows.values()))), "seconds": statistics.median(taken), "slowest": max(taken)}
