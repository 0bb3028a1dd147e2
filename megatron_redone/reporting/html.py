"""report.html: one self-contained page about a run. It needs no script, no network and no other file."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from megatron_redone.common.files import atomic_write_bytes
from megatron_redone.reporting.curves import StageCurves, curve_chart, stage_curves, task_reward_chart
from megatron_redone.reporting.filter_page import PAGE as FILTER_PAGE, account_view
from megatron_redone.reporting.gains import gain_chart, gain_matrix
from megatron_redone.reporting.lineage import Lineage, build_lineage
from megatron_redone.reporting.lineage_chart import lineage_chart
from megatron_redone.reporting.planned import planned_items
from megatron_redone.reporting.plots import change_chart, diagnosis_chart, stage_chart, time_chart
from megatron_redone.reporting.run_files import RunFiles, StageFiles, load_run
from megatron_redone.reporting.samples import choose_samples
from megatron_redone.reporting.summary import BucketEffect, bucket_effects, bucket_sentence, headline
from megatron_redone.reporting.tables import ScoreTable, build_table, to_html
from megatron_redone.reporting.templating import render
from megatron_redone.reporting.timing import stage_times

CHARTS_IN_A_ROW = 3


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
    samples = choose_samples(files)  # first what can fail on a broken file, then the slow charts
    lineage = build_lineage(files)
    times = stage_times(files)
    effects = bucket_effects(files)
    gains = gain_matrix(files, table)
    manifests = [(stage.title, stage.manifest) for stage in files.stages if stage.manifest]
    return render(
        "report.html.jinja",
        run=files.run,
        gaps=files.gaps,
        headline=headline(table),
        table=table,
        table_html=Markup(to_html(table)),
        stage_chart=_stage_chart(table),
        change_chart=_change_chart(table),
        gains=gains,
        gain_chart=Markup(gain_chart(gains)) if gains else None,
        planned=planned_items(files),
        effects=effects,
        effect_rows=_effect_rows(effects),
        buckets=_buckets(effects),
        bucket_sentence=bucket_sentence(effects),
        bucket_chart=_bucket_chart(table, effects),
        diagnoses=[_diagnosis_view(stage, index) for index, stage in enumerate(_diagnosed(files))],
        filters=[_filter_view(stage, index) for index, stage in enumerate(files.stages) if stage.filtered],
        curves=[_curves_view(curves, index) for index, curves in enumerate(stage_curves(files))],
        samples=samples,
        lineage=lineage,
        lineage_chart=_lineage_chart(lineage),
        times=times,
        total_seconds=sum(time.total for time in times),
        time_chart=Markup(time_chart(times)) if times else None,
        counts=[(title, manifest) for title, manifest in manifests if manifest.counts or manifest.refused_rows],
        machines=_distinct([manifest.machine for _, manifest in manifests]),
        versions=_distinct([manifest.versions for _, manifest in manifests]),
        code_versions=sorted({manifest.code_version for _, manifest in manifests}),
        settings=_distinct([stage.evaluation.settings for stage in files.stages if stage.evaluation]),
    )


def _stage_chart(table: ScoreTable) -> Markup | None:
    if all(column.group == "baseline" for column, _ in table.overall):
        return None
    return Markup(stage_chart(table))


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


def _buckets(effects: tuple[BucketEffect, ...]) -> list[tuple[list[int], tuple[str, ...]]]:
    """(seeds, tasks): equal buckets of several seeds once."""
    seeds: dict[tuple[str, ...], list[int]] = {}
    for effect in effects:
        of_bucket = seeds.setdefault(tuple(sorted(effect.tasks)), [])
        if effect.seed is not None:
            of_bucket.append(effect.seed)
    return [(of_bucket, tasks) for tasks, of_bucket in seeds.items()]


def _diagnosed(files: RunFiles) -> list[StageFiles]:
    return [stage for stage in files.stages if stage.diagnosis]


@dataclass(frozen=True)
class ChartGroup:
    """Charts under one heading; the rest is folded away."""

    title: str
    num_seeds: int
    charts: tuple[Markup, ...]
    folded: tuple[Markup, ...]
    by_task: Markup | None


def _curves_view(curves: StageCurves, index: int) -> ChartGroup:
    charts = [
        Markup(curve_chart(metric, of_metric, f"curve-{index}-{place}"))
        for place, (metric, of_metric) in enumerate([*curves.primary.items(), *curves.other.items()])
    ]
    by_task = Markup(task_reward_chart(curves.by_task, f"tasks-{index}")) if curves.by_task else None
    num_shown = max(len(curves.primary), CHARTS_IN_A_ROW)
    shown, folded = tuple(charts[:num_shown]), tuple(charts[num_shown:])
    return ChartGroup(curves.stage, len(curves.seeds), shown, folded, by_task)


def _diagnosis_view(stage: StageFiles, index: int) -> dict[str, object]:
    assert stage.diagnosis is not None
    tasks = sorted(stage.diagnosis.tasks, key=lambda task: (not task.weak, task.score, task.task))
    return {
        "title": stage.title,
        "diagnosis": stage.diagnosis,
        "tasks": tasks,
        "chart": Markup(diagnosis_chart(stage.diagnosis, f"diagnosis-{index}")),
    }


def _filter_view(stage: StageFiles, index: int) -> dict[str, Any]:
    assert stage.filtered is not None
    place = {"title": stage.title, "page": f"{stage.stage.folder}/{FILTER_PAGE}"}
    return {**place, **account_view(stage.filtered, f"filtered-{index}")}


def _lineage_chart(lineage: Lineage) -> Markup | None:
    return Markup(lineage_chart(lineage)) if lineage.files else None


def _distinct(values: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The different ones of the dictionaries, empty ones left out, in the order of their first appearance."""
    found: list[dict[str, Any]] = []
    for value in values:
        if value and value not in found:
            found.append(value)
    return found
