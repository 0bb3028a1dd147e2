"""Reads a run folder. What is absent is listed as a gap; what is broken is an error."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from megatron_redone.common.errors import DataError
from megatron_redone.common.jsonl import read_jsonl_lenient
from megatron_redone.reporting.filter_page import RESULT as FILTER_RESULT, FilterResult
from megatron_redone.reporting.schema import (
    BaselineResult,
    DiagnosisResult,
    EvaluationResult,
    Manifest,
    Run,
    RunStage,
    read_result,
)

MetricsRow = Mapping[str, float]


@dataclass(frozen=True)
class StageFiles:
    """One stage of one seed, with those of its files that exist."""

    stage: RunStage
    folder: Path
    manifest: Manifest | None
    evaluation: EvaluationResult | None
    predictions: Path | None
    diagnosis: DiagnosisResult | None
    filtered: FilterResult | None
    """What a filter dropped."""
    metrics: tuple[MetricsRow, ...]
    """In the order of their steps, one row a step: after a resume the later row of a step counts."""

    @property
    def title(self) -> str:
        """The stage's name, with its seed where it has one."""
        return self.stage.name if self.stage.seed is None else f"{self.stage.name} (seed {self.stage.seed})"


@dataclass(frozen=True)
class RunFiles:
    """A run folder in memory (predictions excepted: they are read when samples are chosen)."""

    folder: Path
    run: Run
    stages: tuple[StageFiles, ...]
    baselines: tuple[BaselineResult, ...]
    gaps: tuple[str, ...]
    """What a whole run would have and this one has not, one sentence each."""

    def names(self) -> list[str]:
        """All stage names in the order of the run, each once."""
        return list(dict.fromkeys(files.stage.name for files in self.stages))

    def of_name(self, name: str) -> list[StageFiles]:
        """The stages with this name, by seed."""
        found = [files for files in self.stages if files.stage.name == name]
        return sorted(found, key=lambda files: (files.stage.seed is not None, files.stage.seed or 0))

    def arms(self) -> list[str]:
        """Names of the stages beside the main line."""
        return list(self.run.comparison.arms) if self.run.comparison else []

    def evaluated(self) -> list[str]:
        """Names of the stages with a result: the main line in the order of the run, then the arms."""
        names = [name for name in self.names() if any(files.evaluation for files in self.of_name(name))]
        arms = self.arms()
        return [name for name in names if name not in arms] + [name for name in arms if name in names]


def load_run(folder: Path) -> RunFiles:
    """Reads the run folder `folder` (layout in `schema.py`).

    Raises:
        DataError: no run.json, or a file that breaks its schema (names file and field).
    """
    run = read_result(folder / "run.json", Run)
    gaps: list[str] = []
    stages = tuple(_load_stage(folder / stage.folder, stage, gaps) for stage in run.stages)
    baselines_file = folder / "baselines" / "baselines.json"
    baselines: tuple[BaselineResult, ...] = ()
    if baselines_file.is_file():
        baselines = read_result(baselines_file, tuple[BaselineResult, ...])
    else:
        gaps.append("There are no baselines (baselines/baselines.json).")
    files = RunFiles(folder=folder, run=run, stages=stages, baselines=baselines, gaps=())
    gaps += _missing_results(files)
    return RunFiles(folder=folder, run=run, stages=stages, baselines=baselines, gaps=tuple(gaps))


def _load_stage(folder: Path, stage: RunStage, gaps: list[str]) -> StageFiles:
    def optional(name: str) -> Path | None:
        return folder / name if (folder / name).is_file() else None

    manifest = optional("manifest.json")
    evaluation = optional("evaluation/results.json")
    diagnosis = optional("diagnosis.json")
    metrics = optional("metrics.jsonl")
    filtered = optional(FILTER_RESULT)
    files = StageFiles(
        stage=stage,
        folder=folder,
        manifest=read_result(manifest, Manifest) if manifest else None,
        evaluation=read_result(evaluation, EvaluationResult) if evaluation else None,
        predictions=optional("evaluation/predictions.jsonl"),
        diagnosis=read_result(diagnosis, DiagnosisResult) if diagnosis else None,
        filtered=read_result(filtered, FilterResult) if filtered else None,
        metrics=_read_metrics(metrics, gaps) if metrics else (),
    )
    if stage.status != "done":
        gaps.append(f"{files.title} is not finished (status: {stage.status}).")
    elif manifest is None:
        gaps.append(f"{files.title} has no manifest.json.")
    return files


def _read_metrics(path: Path, gaps: list[str]) -> tuple[MetricsRow, ...]:
    """Rows by step. A torn last line (the process was killed while writing) is left out and said."""
    rows: dict[int, dict[str, float]] = {}
    problem: str | None = None
    for number, value, found in read_jsonl_lenient(path):
        if problem is not None:
            raise DataError(f"{problem}; only the last line may be torn, the file is damaged")
        problem = found
        if value is not None:
            row = _check_metrics_row(value, f"{path}:{number}")
            rows[int(row["step"])] = row
    if problem is not None:
        gaps.append(f"{path.parent.name}/{path.name}: the last line is torn and was left out.")
    return tuple(rows[step] for step in sorted(rows))


def _check_metrics_row(value: dict[str, Any], where: str) -> dict[str, float]:
    if type(value.get("step")) is not int:
        raise DataError(f"{where}: step is {value.get('step')!r}; each row needs a whole number `step`")
    for name, number in value.items():
        if isinstance(number, bool) or not isinstance(number, int | float):
            raise DataError(f"{where}: {name} is {number!r}; a metric is a number")
    return value


def _missing_results(files: RunFiles) -> list[str]:
    """Results that the comparison needs, and seeds that lack a result which other seeds of the stage have."""
    gaps: list[str] = []
    comparison = files.run.comparison
    if comparison is None:
        gaps.append("The run names no stages to compare (`comparison` in run.json).")
    else:
        wanted = dict.fromkeys([comparison.before, comparison.after, *comparison.arms])
        evaluated = files.evaluated()
        unknown = [name for name in wanted if name not in files.names()]
        gaps += [f"The run has no stage {name}, which `comparison` names." for name in unknown]
        done = {stage.stage.name for stage in files.stages if stage.stage.status == "done"}
        missing = [name for name in wanted if name in done and name not in evaluated]
        gaps += [f"There is no evaluation of {name}." for name in missing]
    for name in files.evaluated():
        done_stages = [stage for stage in files.of_name(name) if stage.stage.status == "done"]
        gaps += [f"There is no evaluation of {s.title}." for s in done_stages if s.evaluation is None]
    return gaps
