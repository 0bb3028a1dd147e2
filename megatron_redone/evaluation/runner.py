"""Scores of a model on held-out rows: generate, parse, score by task, with confidence intervals."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from pathlib import Path
from statistics import fmean

from megatron_redone.common.files import atomic_write_json
from megatron_redone.common.jsonl import write_jsonl
from megatron_redone.data.chat_template import ChatTemplate
from megatron_redone.generation.base import GenerationEngine, SamplingParams
from megatron_redone.generation.config import GenerationConfig
from megatron_redone.generation.prompts import fit_prompt
from megatron_redone.reporting.schema import BaselineResult, EvaluationResult, Prediction, TaskScore
from megatron_redone.scoring.base import Score, Scorer
from megatron_redone.scoring.config import ScoringConfig
from megatron_redone.scoring.statistics import bootstrap_aggregate_interval, mean_interval
from megatron_redone.tasks.base import Row
from megatron_redone.tasks.baselines import copy_options, empty_prediction, majority_answer
from megatron_redone.tasks.catalogue import check_scorable, get_task
from megatron_redone.tasks.scoring import Scoring

INTERVAL_SEED = 0
NUM_RESAMPLES = 500


def evaluate(
    rows: Sequence[Row],
    generator: GenerationEngine,
    template: ChatTemplate,
    config: GenerationConfig,
    *,
    label: str,
    split: str,
    model: str,
    seed: int | None,
    scoring: ScoringConfig | None = None,
) -> tuple[EvaluationResult, list[Prediction]]:
    """Greedy (or as configured) answers to the rows, scored by their tasks. All ranks call it alike.

    Held-out rows are never dropped: a prompt over the limit is answered in part (`over_long: truncate`) or counts as
    answered by nothing (`drop`); the settings of the result say how many there are.
    """
    check_scorable(rows)
    whole = [template.prompt_ids(get_task(row.task).render(row)) for row in rows]
    prompts = {i: fitted for i, prompt in enumerate(whole) if (fitted := fit_prompt(prompt, config)) is not None}
    params = SamplingParams.of(config, template.stop_ids, seed=INTERVAL_SEED)
    completions = generator.generate(list(prompts.values()), params, [rows[i].id for i in prompts])
    outputs = [""] * len(rows)
    over_long = set()
    for index, samples in zip(prompts, completions, strict=True):
        outputs[index] = template.tokenizer.decode(samples[0].token_ids)
        if samples[0].finish_reason == "length":
            over_long.add(rows[index].id)
    with Scoring(scoring) as scorer:
        scores = scorer.score(outputs, rows)
        not_scored = sum(scorer.counts.values())
    predictions = scored_predictions(rows, outputs, scores, template, over_long)
    tasks = task_scores(rows, scores)
    result = EvaluationResult(
        label=label,
        seed=seed,
        split=split,
        model=model,
        tasks=tuple(tasks),
        mean_score=fmean(task.score for task in tasks),
        num_rows=len(rows),
        settings={
            **config.model_dump(),
            "over_long_prompts": sum(len(prompt) > config.max_prompt_tokens for prompt in whole),
            "answers_not_scored": not_scored,
        },
    )
    return result, predictions


def scored_predictions(
    rows: Sequence[Row],
    outputs: Sequence[str],
    scores: Sequence[Score],
    template: ChatTemplate,
    over_long: Collection[str] = (),
) -> list[Prediction]:
    """One prediction a row, in order; `over_long`: ids of rows whose answer was cut at the limit."""
    return [
        Prediction(
            id=row.id,
            task=row.task,
            language=row.language,
            prompt=template.render(get_task(row.task).render(row), add_generation_prompt=True),
            output=output,
            target=get_task(row.task).target(row),
            value=score.value,
            parsed=score.parsed,
            reason=score.reason,
            statistics=dict(score.statistics),
            over_long=row.id in over_long,
        )
        for row, output, score in zip(rows, outputs, scores, strict=True)
    ]


def task_scores(rows: Sequence[Row], scores: Sequence[Score]) -> list[TaskScore]:
    """The benchmark value of each task in 0..100 with its interval, in order of the task names."""
    by_task: dict[str, list[Score]] = {}
    for row, score in zip(rows, scores, strict=True):
        by_task.setdefault(row.task, []).append(score)
    results = []
    for name in sorted(by_task):
        task, members = get_task(name), by_task[name]
        low, high = score_interval(task.scorer, members)
        results.append(
            TaskScore(
                task=name,
                capability=task.capability,
                reward_kind=task.reward_kind,
                num_rows=len(members),
                score=round(100 * task.scorer.aggregate(members), 4),
                interval=(round(100 * low, 4), round(100 * high, 4)),
                parse_rate=fmean(score.parsed for score in members),
            )
        )
    return results


def score_interval(scorer: Scorer, scores: Sequence[Score]) -> tuple[float, float]:
    """95% interval of the benchmark value in 0..1: Wilson's for a share of right answers, which has a width also when
    all are right or all are wrong; else the bootstrap's."""
    values = [score.value for score in scores]
    if math.isclose(scorer.aggregate(scores), fmean(values)):
        return mean_interval(values, INTERVAL_SEED, num_resamples=NUM_RESAMPLES)
    return bootstrap_aggregate_interval(scorer, scores, INTERVAL_SEED, num_resamples=NUM_RESAMPLES)


def baselines(rows: Sequence[Row], train_rows: Sequence[Row]) -> list[BaselineResult]:
    """Rules without a model on the same rows: always empty, the training rows' majority answer, all options copied
    (empty where an answer is no set of options)."""
    train_of: dict[str, list[Row]] = {}
    for row in train_rows:
        train_of.setdefault(row.task, []).append(row)
    empty = [empty_prediction(get_task(row.task), row) for row in rows]
    rules = {row.task: majority_answer(get_task(row.task), train_of.get(row.task, [])) for row in rows}
    majority = [rules[row.task](row) for row in rows]
    copied = [copy_options(get_task(row.task), row) or "" for row in rows]
    results = []
    for name, outputs in (("always empty", empty), ("majority", majority), ("copy options", copied)):
        tasks = task_scores(rows, Scoring().score(outputs, rows))
        results.append(BaselineResult(name=name, tasks=tuple(tasks), mean_score=fmean(task.score for task in tasks)))
    return results


def write_evaluation(folder: Path, result: EvaluationResult, predictions: Sequence[Prediction]) -> None:
    """results.json and predictions.jsonl in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    write_jsonl(folder / "predictions.jsonl", (prediction.model_dump() for prediction in predictions))
    atomic_write_json(folder / "results.json", result.model_dump(mode="json"))
