"""Result files: written by the rooms above, read by reports. JSON, one model a file.

Layout of a run folder:

    run.json                                  Run
    baselines/baselines.json                  a list of BaselineResult
    <stage folder>/manifest.json              Manifest
    <stage folder>/metrics.jsonl              one object a training step: {"step": int, "<name>": number, ...}
    <stage folder>/ledger.jsonl               {"step", "num_samples", "chain"} after each step (training/ledger.py)
    <stage folder>/samples.jsonl.gz           the ids that each step read and learnt from (training/sample_log.py)
    <stage folder>/diagnosis.json             DiagnosisResult (diagnosis stages only)
    <stage folder>/evaluation/results.json    EvaluationResult
    <stage folder>/evaluation/predictions.jsonl   Prediction, one a line

A stage that is repeated for several seeds has one folder a seed, for example `explore.seed1`.
Names used in metrics.jsonl: loss, reward, reward/<task>, entropy, response_length, clip_share,
groups_thrown_away, grad_norm, learning_rate, tokens_per_second; others are shown under their own name.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from megatron_redone.common.errors import DataError

Status = Literal["pending", "running", "done", "failed", "interrupted"]
Points = Annotated[float, Field(ge=0.0, le=100.0)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]


class ResultModel(BaseModel):
    """Base of the result files: immutable, no unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class TaskScore(ResultModel):
    """The score of one task under one model or baseline."""

    task: str
    capability: str
    reward_kind: str
    num_rows: int = Field(ge=0)
    score: Points
    """The task's aggregate in 0..100."""
    interval: tuple[Points, Points]
    """95% interval of `score`, low and high, in 0..100."""
    parse_rate: Share
    """Share of the outputs whose answer could be read, in 0..1."""


class EvaluationResult(ResultModel):
    """`evaluation/results.json`: one model on the rows of one split."""

    label: str
    """Name of the stage, without its seed."""
    seed: int | None = None
    split: str
    model: str
    tasks: tuple[TaskScore, ...]
    mean_score: Points
    """The benchmark's value in 0..100: the plain mean of the tasks unless the benchmark says otherwise."""
    num_rows: int = Field(ge=0)
    settings: dict[str, Any] = Field(default_factory=dict)
    """Generation settings: temperature, longest response, ..."""


class Prediction(ResultModel):
    """One line of `evaluation/predictions.jsonl`."""

    id: str
    task: str
    language: str
    prompt: str
    """The chat as the model read it, as text."""
    output: str
    target: str
    """The gold answer as text."""
    value: Share
    """Score of the row in 0..1."""
    parsed: bool
    reason: str = ""
    """Why points were lost, in a few words; empty when nothing is to say."""
    statistics: dict[str, float] = Field(default_factory=dict)
    """What the task's metric sums up of this row (`scoring.base.Score.statistics`); `redone compare` resamples it."""
    over_long: bool = False
    """Whether generation ended at its limit, before the answer did."""


class BaselineResult(ResultModel):
    """One entry of `baselines/baselines.json`: a rule without a model, scored on the same rows."""

    name: str
    tasks: tuple[TaskScore, ...]
    mean_score: Points


class FailureExample(ResultModel):
    """An answer that lost points, to be read; long texts are cut."""

    id: str
    kind: str
    value: Share
    prompt: str
    output: str
    target: str
    reason: str = ""


class DiagnosedTask(ResultModel):
    """The diagnosis of one task."""

    task: str
    capability: str
    score: Points
    """The task's score in 0..100 on diagnosis rows."""
    interval: tuple[Points, Points]
    weak: bool
    reason: str
    failure_kinds: dict[str, int] = Field(default_factory=dict)
    """Failed outputs counted by kind."""
    num_rows: int | None = None
    target: Points | None = None
    """What the score is held against, in 0..100."""
    p_value: Share | None = None
    """Of "the score reaches the target", one-sided; None for too few rows."""
    q_value: Share | None = None
    """The same after the adjustment of Benjamini and Hochberg over the tasks."""
    earlier: tuple[Points | None, ...] = ()
    """Scores of the earlier results, in their order; None where one lacks the task."""
    trend: str = ""
    """Against the last of them: `rose`, `fell` or `no conclusion`."""
    examples: tuple[FailureExample, ...] = ()


class DiagnosedCapability(ResultModel):
    """The plain mean of a capability's tasks."""

    capability: str
    num_tasks: int = Field(ge=1)
    num_weak: int = Field(ge=0)
    score: Points
    interval: tuple[Points, Points]
    target: Points


class DiagnosisResult(ResultModel):
    """`diagnosis.json`: which tasks a model fails, by which rule."""

    model: str
    rule: str
    """The rule that names a task weak, as one sentence."""
    threshold: Points | None = None
    """The border in 0..100 where the rule has one border for all tasks."""
    tasks: tuple[DiagnosedTask, ...]
    weak_bucket: tuple[str, ...]
    capabilities: tuple[DiagnosedCapability, ...] = ()
    target_name: str = ""
    """What the targets are, in words."""
    earlier: tuple[str, ...] = ()
    """Names of the earlier results, in order."""
    settings: dict[str, Any] = Field(default_factory=dict)


class FileRecord(ResultModel):
    """A file or folder that a stage read or wrote."""

    path: str
    """Relative to the run folder when below it."""
    sha256: str


class Manifest(ResultModel):
    """`manifest.json` of an artefact folder."""

    stage: str
    kind: str
    status: Status
    config: dict[str, Any]
    code_version: str
    seeds: tuple[int, ...] = ()
    inputs: dict[str, FileRecord] = Field(default_factory=dict)
    outputs: dict[str, FileRecord] = Field(default_factory=dict)
    counts: dict[str, int | float] = Field(default_factory=dict)
    """Rows read, refused, dropped, tokens trained, ..."""
    refused_rows: tuple[str, ...] = ()
    """Rows that were refused, each as "file:line: reason"."""
    started: str
    """ISO 8601 time."""
    seconds: float = Field(ge=0.0)
    """Wall time of the stage's own work, evaluation not included; of earlier starts the training steps count."""
    evaluation_seconds: float = Field(0.0, ge=0.0)
    """Wall time of answering and scoring held-out rows."""
    machine: dict[str, Any] = Field(default_factory=dict)
    versions: dict[str, str] = Field(default_factory=dict)


class RunStage(ResultModel):
    """One stage of a run, for one seed where the stage is repeated."""

    name: str
    """Name in the recipe, without a seed; stages that differ in the seed only share it."""
    kind: str
    seed: int | None = None
    folder: str
    """Relative to the run folder."""
    status: Status


class Comparison(ResultModel):
    """Which stages the headline compares, by name."""

    before: str
    after: str
    arms: tuple[str, ...] = ()
    """Stages that stand beside the main line, for example an arm that is trained by SFT only."""


class Run(ResultModel):
    """`run.json`: the stages of a run in their order."""

    recipe: str
    name: str
    command: str
    """What to type to get this run again."""
    seeds: tuple[int, ...] = ()
    stages: tuple[RunStage, ...]
    comparison: Comparison | None = None
    notes: tuple[str, ...] = ()
    """Licences of the data and limits of the figures, printed at the end of the report."""


Model = TypeVar("Model")
REMEDY = "run the stage that writes it again"


def read_result(path: Path, kind: type[Model]) -> Model:
    """Reads one result file as `kind`, a model of this module or `tuple[BaselineResult, ...]`.

    Raises:
        DataError: no such file, not JSON, or a field that breaks the schema (names file and field).
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file; run the stage that writes it")
    try:
        value = json.loads(path.read_bytes().decode("utf-8", errors="surrogatepass"))
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 at byte {error.start}; {REMEDY}") from error
    except json.JSONDecodeError as error:
        raise DataError(f"{path}:{error.lineno}: not JSON ({error.msg}); {REMEDY}") from error
    return validate_result(value, kind, str(path))


def validate_result(value: object, kind: type[Model], where: str) -> Model:
    """Checks a parsed JSON value against `kind`; `where` (file, or file:line) stands in the DataError."""
    try:
        return TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        problems = [f"{_field(problem['loc'])}: {problem['msg']}" for problem in error.errors()]
        shown = "; ".join(problems[:5]) + (f"; and {len(problems) - 5} more" if len(problems) > 5 else "")
        raise DataError(f"{where}: {shown}; if another version wrote it, {REMEDY}") from error


def _field(location: tuple[int | str, ...]) -> str:
    return ".".join(str(part) for part in location) or "the whole file"
