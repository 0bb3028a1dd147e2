"""Run folders made up for the tests of the reports: every number is a function of names and seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from megatron_redone.common.files import atomic_write_json
from megatron_redone.common.jsonl import write_jsonl
from megatron_redone.common.seeding import rng
from megatron_redone.reporting.schema import (
    BaselineResult,
    Comparison,
    DiagnosedTask,
    DiagnosisResult,
    EvaluationResult,
    FileRecord,
    Manifest,
    Prediction,
    Run,
    RunStage,
    Status,
    TaskScore,
)

TASKS = {
    "note_taxonomy_single": "content understanding",
    "note_taxonomy_multiple": "content understanding",
    "query_intent": "content understanding",
    "note_security": "content understanding",
    "hashtag_single": "information extraction",
    "hashtag_multiple": "information extraction",
    "comment_highlight": "information extraction",
    "note_ner": "information extraction",
    "query_note_relevance": "semantic matching",
    "query_note_yes_no": "semantic matching",
    "next_query": "user behaviour modelling",
    "translate_en_zh": "translation",
}
WEAK = ("comment_highlight", "next_query", "translate_en_zh")
LEVEL = {"warmup": 18.0, "explore": 46.0, "target": 55.0, "refine": 62.0, "sft_only": 51.0}
SHARED = ("data", "tokenizer", "cpt", "warmup")
PER_SEED = ("explore", "diagnose", "target", "refine", "sft_only")
KINDS = {
    "data": "quickstart_data",
    "tokenizer": "tokenizer",
    "cpt": "pretrain",
    "warmup": "sft",
    "explore": "dapo",
    "diagnose": "diagnose",
    "target": "sft",
    "refine": "dapo",
    "sft_only": "sft",
}
READS: dict[str, dict[str, str]] = {
    "data": {},
    "tokenizer": {"texts": "data"},
    "cpt": {"texts": "data", "tokenizer": "tokenizer"},
    "warmup": {"model": "cpt", "rows": "data"},
    "explore": {"model": "warmup", "rows": "data"},
    "diagnose": {"model": "explore", "rows": "data"},
    "target": {"model": "explore", "bucket": "diagnose", "rows": "data"},
    "refine": {"model": "target", "rows": "data"},
    "sft_only": {"model": "warmup", "rows": "data"},
}
NUM_ROWS = 100


def write_run(folder: Path, seeds: Sequence[int] = (1, 2, 3), upto: str = "sft_only", hostile: str = "") -> Path:
    """A run folder with all result files of the stages up to and including `upto`; later ones are pending.

    `hostile` is appended to names and texts that a user or a model controls.
    """
    order = [(name, None) for name in SHARED] + [(name, seed) for seed in seeds for name in PER_SEED]
    reached = [*SHARED, *PER_SEED].index(upto)
    stages = []
    for name, seed in order:
        status: Status = "done" if [*SHARED, *PER_SEED].index(name) <= reached else "pending"
        stage = RunStage(name=name, kind=KINDS[name], seed=seed, folder=folder_of(name, seed), status=status)
        stages.append(stage)
        if status == "done":
            write_stage(folder, stage, hostile)
    run = Run(
        recipe="examples/quickstart/recipe.yaml" + hostile,
        name="quickstart" + hostile,
        command="redone run examples/quickstart/recipe.yaml" + hostile,
        seeds=tuple(seeds),
        stages=tuple(stages),
        comparison=Comparison(before="warmup", after="refine", arms=("sft_only",)),
        notes=("The rows are made by rules; nothing here was written by users of a platform." + hostile,),
    )
    atomic_write_json(folder / "run.json", run.model_dump(mode="json"))
    baselines = [baseline("always empty", 4.0, hostile), baseline("majority", 21.0, hostile)]
    atomic_write_json(folder / "baselines" / "baselines.json", [b.model_dump(mode="json") for b in baselines])
    return folder


def folder_of(name: str, seed: int | None) -> str:
    return name if seed is None or name in SHARED else f"{name}.seed{seed}"


def write_stage(run: Path, stage: RunStage, hostile: str) -> None:
    folder = run / stage.folder
    manifest = manifest_of(stage, hostile)
    atomic_write_json(folder / "manifest.json", manifest.model_dump(mode="json"))
    if stage.kind in ("pretrain", "sft", "dapo"):
        write_jsonl(folder / "metrics.jsonl", metrics(stage))
    if stage.name == "diagnose":
        atomic_write_json(folder / "diagnosis.json", diagnosis(stage, hostile).model_dump(mode="json"))
    if stage.name in LEVEL:
        result = evaluation(stage, hostile)
        atomic_write_json(folder / "evaluation" / "results.json", result.model_dump(mode="json"))
        rows = [prediction(stage, task, index, hostile) for task in TASKS for index in range(4)]
        write_jsonl(folder / "evaluation" / "predictions.jsonl", [row.model_dump(mode="json") for row in rows])


def manifest_of(stage: RunStage, hostile: str = "") -> Manifest:
    inputs = {
        name: FileRecord(path=f"{folder_of(producer, stage.seed)}/{name}", sha256=f"{len(producer):064x}")
        for name, producer in READS[stage.name].items()
    }
    if stage.name == "data":
        inputs = {"word lists": FileRecord(path="/somewhere/words.txt", sha256="e" * 64)}
    return Manifest(
        stage=stage.name,
        kind=stage.kind,
        status="done",
        config={"num_steps": 40},
        code_version="0.1.0",
        seeds=(stage.seed,) if stage.seed is not None else (),
        inputs=inputs,
        outputs={"model": FileRecord(path=f"{stage.folder}/model", sha256=f"{len(stage.folder):064x}")},
        counts={"rows": 4000, "refused": 1} if stage.name == "data" else {},
        refused_rows=(f"rows.jsonl:7: gold answer not among the options{hostile}",) if stage.name == "data" else (),
        started="2024-01-01T00:00:00+00:00",
        seconds=12.5 + 7 * len(stage.name),
        evaluation_seconds=6.25 if stage.name in LEVEL else 0.0,
        machine={"processor": "an example processor", "cores": 2, "memory_gib": 7.5},
        versions={"python": "3.11.7", "torch": "2.13.0"},
    )


def task_score(task: str, score: float, parse_rate: float) -> TaskScore:
    score = min(max(score, 0.0), 100.0)
    half = 196.0 * math.sqrt(max(score / 100 * (1 - score / 100), 0.002) / NUM_ROWS)
    return TaskScore(
        task=task,
        capability=TASKS[task],
        reward_kind="exact_match",
        num_rows=NUM_ROWS,
        score=round(score, 3),
        interval=(round(max(0.0, score - half), 3), round(min(100.0, score + half), 3)),
        parse_rate=parse_rate,
    )


def scores_of(name: str, seed: int | None, level: float, hostile: str = "") -> tuple[TaskScore, ...]:
    """Weak tasks stay low until the targeted stage; one task falls a little."""
    scores = []
    for task in TASKS:
        noise = rng("task", task).uniform(-12, 12) + rng("seed", name, task, seed).uniform(-3, 3)
        weak = -28.0 if task in WEAK and name == "explore" else 0.0
        fall = -48.0 if task == "query_note_yes_no" and name != "warmup" else 0.0
        rate = 0.55 if name == "warmup" else 0.97
        score = task_score(task, level + noise + weak + fall, rate)
        scores.append(score.model_copy(update={"task": task + hostile}))
    return tuple(scores)


def mean_of(scores: Sequence[TaskScore]) -> float:
    return sum(score.score for score in scores) / len(scores)


def baseline(name: str, level: float, hostile: str = "") -> BaselineResult:
    scores = scores_of("warmup", None, level, hostile)
    return BaselineResult(name=name, tasks=scores, mean_score=mean_of(scores))


def evaluation(stage: RunStage, hostile: str = "") -> EvaluationResult:
    scores = scores_of(stage.name, stage.seed, LEVEL[stage.name], hostile)
    return EvaluationResult(
        label=stage.name,
        seed=stage.seed,
        split="test",
        model=f"{stage.folder}/model",
        tasks=scores,
        mean_score=mean_of(scores),
        num_rows=NUM_ROWS * len(scores),
        settings={"temperature": 0.0, "max_response_tokens": 64},
    )


def diagnosis(stage: RunStage, hostile: str = "") -> DiagnosisResult:
    tasks = []
    for score in scores_of("explore", stage.seed, LEVEL["explore"], hostile):
        weak = score.interval[1] < 35.0
        reason = "the interval ends below 35" if weak else "the interval reaches 35"
        kinds = {"wrong answer": int(100 - score.score), "not readable": 3} if weak else {}
        tasks.append(
            DiagnosedTask(
                task=score.task,
                capability=score.capability,
                score=score.score,
                interval=score.interval,
                weak=weak,
                reason=reason + hostile,
                failure_kinds=kinds,
            )
        )
    return DiagnosisResult(
        model=f"explore.seed{stage.seed}/model",
        rule="A task is weak when its 95% interval ends below 35 points on diagnosis rows." + hostile,
        threshold=35.0,
        tasks=tuple(tasks),
        weak_bucket=tuple(task.task for task in tasks if task.weak),
    )


def metrics(stage: RunStage, num_steps: int = 40) -> list[dict[str, float]]:
    rows = []
    for step in range(1, num_steps + 1):
        noise = rng("metrics", stage.folder, step).uniform(-1, 1)
        part = step / num_steps
        row = {
            "step": step,
            "loss": (4.0 if stage.kind == "pretrain" else 1.0) * math.exp(-2 * part) + 0.05 * noise,
            "grad_norm": 1.0 + 0.2 * noise,
            "learning_rate": 1e-3 * min(1.0, step / 5),
            "tokens_per_second": 5000 + 200 * noise,
        }
        if stage.kind == "dapo":
            row |= {
                "reward": 0.2 + 0.4 * part + 0.04 * noise,
                "entropy": 1.4 - 0.8 * part + 0.05 * noise,
                "response_length": 14 - 5 * part + noise,
                "clip_share": 0.02 + 0.01 * noise,
                "groups_thrown_away": round(3 + 5 * part + noise),
            }
            row |= {f"reward/{task}": min(max(0.1 + 0.6 * part + 0.2 * noise, 0), 1) for task in TASKS}
        rows.append(row)
    return rows


def prediction(stage: RunStage, task: str, index: int, hostile: str = "") -> Prediction:
    value = float(rng("value", stage.folder, task, index).random() < LEVEL[stage.name] / 100)
    parsed = value > 0 or index % 2 == 0
    return Prediction(
        id=f"{task}-{index}",
        task=task,
        language="zh" if index % 2 else "en",
        prompt=f"Which label fits this note?\nTitle: a quiet lake, row {index}\n选项: 旅行 | 美食" + hostile,
        output=("旅行" if value else "I would say it is about") + hostile,
        target="旅行" + hostile,
        value=value,
        parsed=parsed,
        reason="" if value else ("wrong label" if parsed else "no answer found"),
    )
