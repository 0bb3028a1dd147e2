"""report.html: one self-contained page about a run. It needs no script, no network and no other file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from megatron_redone.common.files import atomic_write_bytes
from megatron_redone.reporting.curves import Curve, StageCurves, curve_chart, stage_curves, task_reward_chart
from megatron_redone.reporting.lineage import Lineage, build_lineage
from megatron_redone.reporting.lineage_chart import lineage_chart
from megatron_redone.reporting.plots import change_chart, diagnosis_chart, stage_chart, time_chart
from megatron_redone.reporting.run_files import RunFiles, StageFiles, load_run
from megatron_redone.reporting.samples import choose_samples
from megatron_redone.reporting.summary import BucketEffect, bucket_effects, bucket_sentence, headline
from megatron_redone.reporting.tables import ScoreTable, build_table, to_html
from megatron_redone.reporting.templating import render
from megatron_redone.reporting.timing import stage_times


def write_report(run_folder: Path, out: Path) -> Path:
    """Writes the report of a run, whole or partial, and returns the path of the file.

    Args:
        run_folder: layout in `schema.py`.
        out: the file, or an existing folder that gets a report.html.

    Raises:
        DataError: no run.json, or a result file that breaks its schema.
    """
    path = out / "report.html" if out.is_dir() else out
    text = report_html(load_run(run_folder))
    atomic_write_bytes(path, text.encode("utf-8"))
    return path


def report_html(files: RunFiles) -> str:
    """The page as text."""
    table = build_table(files)
    lineage = build_lineage(files)
    times = stage_times(files)
    effects = bucket_effects(files)
    return render(
        "report.html.jinja",
        run=files.run,
        gaps=files.gaps,
        headline=headline(table),
        table=table,
        table_html=Markup(to_html(table)),
        stage_chart=Markup(stage_chart(table)) if any(c.group != "baseline" for c, _ in table.overall) else None,
        change_chart=_change_chart(table),
        effects=effects,
        effect_rows=_effect_rows(effects),
        bucket_sentence=bucket_sentence(effects),
        bucket_chart=_bucket_chart(table, effects),
        diagnoses=[_diagnosis_view(stage, index) for index, stage in enumerate(_diagnosed(files))],
        curves=[_curves_view(curves, index) for index, curves in enumerate(stage_curves(files))],
        samples=choose_samples(files),
        lineage=lineage,
        lineage_chart=_lineage_chart(lineage),
        times=times,
        total_seconds=sum(time.total for time in times),
        time_chart=Markup(time_chart(times)) if times else None,
        counts=[(stage.title, stage.manifest) for stage in files.stages if stage.manifest],
        machines=_distinct([stage.manifest.machine for stage in files.stages if stage.manifest]),
        versions=_distinct([stage.manifest.versions for stage in files.stages if stage.manifest]),
        code_versions=sorted({stage.manifest.code_version for stage in files.stages if stage.manifest}),
        settings=_distinct([stage.evaluation.settings for stage in files.stages if stage.evaluation]),
    )


def _change_chart(table: ScoreTable) -> Markup | None:
    if table.before is None or table.after is None:
        return None
    return Markup(change_chart(table, table.before, table.after))


def _bucket_chart(table: ScoreTable, effects: tuple[BucketEffect, ...]) -> Markup | None:
    if not effects:
        return None
    weak = sorted({task for effect in effects for task in effect.tasks})
    before, after = effects[0].stages[:2]
    return Markup(change_chart(table, before, after, weak, name="bucket"))


def _effect_rows(effects: tuple[BucketEffect, ...]) -> list[tuple[str, str, list[float | None]]]:
    """(seed, which tasks, score by stage) of the effects whose stages are those of the first."""
    rows: list[tuple[str, str, list[float | None]]] = []
    for effect in effects:
        if effect.stages == effects[0].stages:
            seed = "all" if effect.seed is None else str(effect.seed)
            rows.append((seed, f"weak ({len(effect.tasks)})", list(effect.bucket)))
            rows.append((seed, "others", list(effect.others)))
    return rows


def _diagnosed(files: RunFiles) -> list[StageFiles]:
    return [stage for stage in files.stages if stage.diagnosis]


@dataclass(frozen=True)
class ChartGroup:
    """Charts under one heading; the rest is folded away."""

    title: str
    num_seeds: int
    charts: tuple[Markup, ...]
    folded: tuple[Markup, ...]


def _curves_view(curves: StageCurves, index: int) -> ChartGroup:
    def charts(metrics: Mapping[str, Mapping[int | None, Curve]]) -> list[Markup]:
        return [Markup(curve_chart(m, c, f"curve-{index}-{_slug(m)}")) for m, c in metrics.items()]

    by_task = [Markup(task_reward_chart(curves.by_task, f"tasks-{index}"))] if curves.by_task else []
    return ChartGroup(
        curves.stage, len(curves.seeds), tuple(charts(curves.primary)), tuple(by_task + charts(curves.other))
    )


def _diagnosis_view(stage: StageFiles, index: int) -> dict[str, object]:
    assert stage.diagnosis is not None
    tasks = sorted(stage.diagnosis.tasks, key=lambda task: (not task.weak, task.score, task.task))
    return {
        "title": stage.title,
        "diagnosis": stage.diagnosis,
        "tasks": tasks,
        "chart": Markup(diagnosis_chart(stage.diagnosis, f"diagnosis-{index}")),
    }


def _lineage_chart(lineage: Lineage) -> Markup | None:
    return Markup(lineage_chart(lineage)) if lineage.files else None


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def _distinct(values: list[dict[str, object]] | list[dict[str, str]]) -> list[dict[str, object]]:
    """The different ones of the dictionaries, empty ones left out, in the order of their first appearance."""
    found: list[dict[str, object]] = []
    for value in values:
        entry: dict[str, object] = dict(value)
        if entry and entry not in found:
            found.append(entry)
    return found
