"""The diagnosis stage: answers of a model, or evaluations made before, to the weak bucket and its page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from megatron_redone.common.errors import DataError
from megatron_redone.common.files import atomic_write_json
from megatron_redone.common.jsonl import read_jsonl
from megatron_redone.curation.diagnosis.bucket import catalogue_names, write_bucket
from megatron_redone.curation.diagnosis.diagnose import diagnose
from megatron_redone.curation.diagnosis.results import ModelResults, TaskMetric
from megatron_redone.evaluation.comparison.metrics import TaskMetric as OfficialMetric, task_metric, with_count
from megatron_redone.evaluation.comparison.reading import Evaluation, Item, read_runs
from megatron_redone.evaluation.results import FAILURES, PREDICTIONS, RESULTS
from megatron_redone.evaluation.runner import write_evaluation
from megatron_redone.recipes import config as kinds
from megatron_redone.recipes.execution import Execution
from megatron_redone.reporting.benchmark_schema import BenchmarkResult, Failure
from megatron_redone.reporting.diagnosis_page import write_diagnosis_page
from megatron_redone.reporting.schema import EvaluationResult, Prediction, TaskScore, read_result, validate_result
from megatron_redone.scoring.paired import Numbers
from megatron_redone.tasks.catalogue import get_task

ROWS = "diagnosis_rows"
RESULT = "diagnosis.json"
UNKNOWN_OUTPUT = "(the answer is not in the evaluation's folder)"


def run_diagnose(execution: Execution) -> None:
    """Answers to the diagnosis rows (or results made before), the weak bucket, and the page."""
    config = execution.config(kinds.DiagnoseStage)
    if config.model is not None:
        engine, _, template = execution.load_model()
        rows = execution.rows("data", "diagnosis.jsonl")
        result, predictions = execution.answer(engine, template, rows, "diagnosis", config.generation)
        if execution.context.is_main:
            write_evaluation(execution.work / ROWS, result, predictions)
    if not execution.context.is_main:
        return
    folder = execution.work / ROWS if config.model is not None else execution.input_path("results")
    own = read_results(folder, _name(execution.run.inputs["model" if config.model is not None else "results"]))
    references = _others(execution, "against", config.against)
    earlier = _others(execution, "earlier", config.earlier)
    sides = Sides([own, *references, *earlier])
    found = diagnose(
        config,
        own.results,
        sides.metric_of,
        references=[one.results for one in references],
        earlier=[one.results for one in earlier],
    )
    atomic_write_json(execution.work / RESULT, found.model_dump(mode="json"))
    write_bucket(execution.work / "bucket.yaml", found)
    write_diagnosis_page(found, execution.work)
    execution.counts["tasks"] = len(found.tasks)
    execution.counts["weak_tasks"] = len(found.weak_bucket)


def _others(execution: Execution, field: str, references: Sequence[str]) -> list[ReadResults]:
    places = [f"{field}.{place}" for place in range(len(references))]
    return [read_results(execution.input_path(place), _name(execution.run.inputs[place])) for place in places]


def _name(reference: str) -> str:
    """A stage run's name, or of a path what tells it from others."""
    parts = [part for part in Path(reference).parts if part not in (ROWS, "evaluation")]
    return parts[-1] if parts else reference


@dataclass(frozen=True)
class ReadResults:
    """Results of a model, with the evaluation that each task stands in."""

    results: ModelResults
    evaluations: Mapping[str, Evaluation]
    """By task."""


class Sides:
    """Finds the metric of a task over several results."""

    def __init__(self, sides: Sequence[ReadResults]) -> None:
        self._of = {id(side.results): side for side in sides}

    def metric_of(self, task: str, results: Sequence[ModelResults]) -> TaskMetric:
        """The task's own metric, which gives the scores of all these results.

        Raises:
            DataError: none does.
        """
        sides = [self._of[id(one)].evaluations[task] for one in results]
        found = task_metric(sides, task, [list(side.tasks[task].values()) for side in sides])
        if isinstance(found, str):
            raise DataError(f"{', '.join(str(side.folder) for side in sides)}: {task}: {found}")
        return _Metric(found)


@dataclass(frozen=True)
class _Metric:
    official: OfficialMetric

    def matrix(self, predictions: Sequence[Prediction]) -> Numbers:
        items = [Item(one.value, one.parsed, one.statistics) for one in predictions]
        return with_count(self.official.matrix(items))

    def score(self, sums: Numbers) -> Numbers:
        return self.official.score(sums)


def read_results(folder: Path, name: str) -> ReadResults:
    """Results in a folder: of a diagnosis, of a stage with an evaluation, or of `redone evaluate`, also several.

    Raises:
        DataError: there are none, a broken file, or a task that stands in two of them.
    """
    folder = folder / ROWS if (folder / ROWS / RESULTS).is_file() else folder
    (run,) = read_runs([folder])
    scores: list[TaskScore] = []
    predictions: list[Prediction] = []
    evaluations: dict[str, Evaluation] = {}
    for evaluation in run.evaluations.values():
        of_this = _of_stage(evaluation) if evaluation.is_stage else _of_benchmark(evaluation)
        for score in of_this[0]:
            if score.task in evaluations:
                raise DataError(f"{folder}: two evaluations have the task {score.task!r}; give one of them")
            evaluations[score.task] = evaluation
        scores += of_this[0]
        predictions += of_this[1]
    return ReadResults(ModelResults.of(name, scores, predictions), evaluations)


def _of_stage(evaluation: Evaluation) -> tuple[list[TaskScore], list[Prediction]]:
    scores = list(read_result(evaluation.folder / RESULTS, EvaluationResult).tasks)
    path = evaluation.folder / PREDICTIONS
    return scores, [validate_result(line, Prediction, f"{path}:{number}") for number, line in read_jsonl(path)]


def _of_benchmark(evaluation: Evaluation) -> tuple[list[TaskScore], list[Prediction]]:
    """Rows of a benchmark; texts of those that failures.jsonl shows, and outputs that predictions.jsonl has."""
    folder = evaluation.folder
    result = read_result(folder / RESULTS, BenchmarkResult)
    scores = [
        _task_score(task, values, evaluation.groups[task], f"{folder / RESULTS}: {task}")
        for task, values in result.tasks.items()
        if evaluation.tasks[task]
    ]
    shown: dict[tuple[str, str], Failure] = {}
    if (folder / FAILURES).is_file():
        for number, line in read_jsonl(folder / FAILURES):
            failure = validate_result(line, Failure, f"{folder / FAILURES}:{number}")
            shown[failure.file, str(failure.index)] = failure
    outputs: dict[tuple[str, str], str] = {}
    if (folder / PREDICTIONS).is_file():
        for _, line in read_jsonl(folder / PREDICTIONS):
            outputs[str(line.get("file")), str(line.get("index"))] = str(line.get("output", ""))
    predictions = []
    for score in scores:
        for index, item in evaluation.tasks[score.task].items():
            place = (score.task, index)
            known = shown.get(place)
            predictions.append(
                Prediction(
                    id=index, task=score.task, language="", prompt=known.prompt if known else "",
                    output=outputs.get(place, known.output if known else UNKNOWN_OUTPUT),
                    target=known.gold if known else "", value=item.value, parsed=item.parsed,
                    reason=known.reason if known else "", statistics=dict(item.statistics),
                )
            )  # fmt: skip
    return scores, predictions


def _task_score(task: str, values: Mapping[str, object], group: str, where: str) -> TaskScore:
    """A benchmark's task; its capability is that of the catalogue's task that asks the same, else its group."""
    names = catalogue_names(task)
    low, high = (_points(value) for value in _pair(values.get("interval"), where))
    return validate_result(
        {
            "task": task,
            "capability": get_task(names[0]).capability if names else group,
            "reward_kind": "metric",
            "num_rows": values.get("num_rows"),
            "score": _points(values.get("score")),
            "interval": (low, high),
            "parse_rate": values.get("parse_rate", 1.0),
        },
        TaskScore,
        where,
    )


def _pair(value: object, where: str) -> tuple[object, object]:
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise DataError(f"{where}: interval={value!r} is no pair of numbers; run `redone evaluate` again")
    return value[0], value[1]


def _points(value: object) -> object:
    """A score in 0..100; a cosine may lie a little below 0."""
    return min(max(float(value), 0.0), 100.0) if isinstance(value, int | float) else value
