"""Pairs of a model's own answers: drawn, judged and paired in the stage `pairs`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from megatron_redone.common.progress_file import ProgressFile
from megatron_redone.curation.pairs.judged import BATCH, passed_agreement
from megatron_redone.curation.pairs.model_errors import as_outputs
from megatron_redone.curation.pairs.own_answers import as_share, candidates_of, own_pairs, to_judge
from megatron_redone.curation.pairs.pair import Pair
from megatron_redone.recipes import data_stages as kinds
from megatron_redone.recipes.execution import Execution
from megatron_redone.recipes.executors.answers import append, reported, sample
from megatron_redone.recipes.executors.judges import identity_of, judge_of
from megatron_redone.scoring.judge import Answered, PointwiseJudge
from megatron_redone.tasks.row import Row

OWN_ANSWERS, SCORES = "own_answers.jsonl", "scores.jsonl"


def draw_and_judge(execution: Execution, config: kinds.PairsStage, rows: Sequence[Row]) -> None:
    """Draws the answers and has them scored by the judge where it has weight."""
    settings = config.own_answers
    assert settings is not None
    if settings.judge_weight:  # before any answer is drawn
        assert config.judge is not None
        passed_agreement(execution.input_path("agreement"), identity_of(execution, config.judge))
    sample(execution, settings, rows, OWN_ANSWERS, "own answers")
    if not settings.judge_weight:
        return
    assert config.judge is not None
    by_id = {row.id: row for row in rows}
    drawn = execution.context.on_main(lambda: list(ProgressFile(execution.work / OWN_ANSWERS)))
    asked = [
        answered
        for value in drawn
        for answered in to_judge(by_id[value["id"]], as_outputs(value["outputs"]), config.judge.language)
    ]
    progress = execution.context.on_main(lambda: ProgressFile(execution.work / SCORES))
    left = [answered for answered in asked if answered.id not in progress.done]
    with reported(execution, "scores", len(asked), len(asked) - len(left)) as between:
        if left:
            _score(execution, config, left, progress, between)


def _score(
    execution: Execution, config: kinds.PairsStage, left: list[Answered], progress: ProgressFile, between: Any
) -> None:
    assert config.judge is not None
    with judge_of(execution, config.judge) as judge:
        assert isinstance(judge, PointwiseJudge)  # by the rules of the settings
        for start in range(0, len(left), BATCH):
            batch = left[start : start + BATCH]
            scores = judge.score_all(batch)
            lines = [
                {"id": answered.id, "score": as_share(config.judge, score)}
                for answered, score in zip(batch, scores, strict=True)
            ]
            append(execution, progress, lines)
            between(len(batch))


def own_answer_pairs(execution: Execution, config: kinds.PairsStage, rows: Mapping[str, Row]) -> Iterator[Pair]:
    """The pairs, with counts of the rows that gave none."""
    settings = config.own_answers
    assert settings is not None
    scores: dict[str, float | None] | None = None
    if settings.judge_weight:
        scores = {value["id"]: value["score"] for value in ProgressFile(execution.work / SCORES)}
        execution.counts["own_answers/unreadable_scores"] = sum(score is None for score in scores.values())
    made_by = {"model_sha256": execution.identity["inputs"]["model"]["sha256"]}
    if config.judge is not None and settings.judge_weight:
        made_by["judge"] = identity_of(execution, config.judge)
    counts = {"answered": 0, "over_long_prompts": 0, "below_floor": 0, "without_pair": 0}
    for value in ProgressFile(execution.work / OWN_ANSWERS):
        row, outputs = rows[value["id"]], as_outputs(value["outputs"])
        judged = None
        if scores is not None:
            judged = [scores.get(answered.id) for answered in to_judge(row, outputs, "auto")]
        candidates = candidates_of(settings, row, outputs, judged)
        pairs = own_pairs(settings, row, candidates, made_by)
        counts["answered"] += bool(outputs)
        counts["over_long_prompts"] += not outputs
        low = not any(one.parsed and one.quality >= settings.floor for one in candidates)
        counts["below_floor"] += bool(outputs) and low
        counts["without_pair"] += bool(outputs) and not low and not pairs
        yield from pairs
    execution.counts.update({f"own_answers/{name}": count for name, count in counts.items()})
