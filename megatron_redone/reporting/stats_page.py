"""stats.html: one self-contained page about a data set. It needs no script, no network and no other file."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from markupsafe import Markup

from megatron_redone.common.files import atomic_write_text
from megatron_redone.reporting.data_charts import length_chart, ranking_chart, turns_chart
from megatron_redone.reporting.data_schema import DataStatsResult
from megatron_redone.reporting.templating import render

REFERENCE = {"median": 345, "p95": 2342, "longest": 16384}
"""Tokens of RedOne's SFT data (RedOne, analysis of the SFT data), shown beside ours."""


def write_stats_page(result: DataStatsResult, path: Path) -> None:
    """Writes the page of a result."""
    atomic_write_text(path, stats_html(result))


def stats_html(result: DataStatsResult) -> str:
    """The page as text."""
    summary = result.lengths.summary
    tiles = [
        (f"{result.rows:,}", "rows"),
        (f"{summary.total:,}", result.unit),
        (f"{summary.median:,}", f"median {result.unit} of a row"),
        (f"{summary.p95:,}", f"95th percentile of {result.unit}"),
        (f"{summary.longest:,}", f"longest row in {result.unit}"),
        (f"{result.refused:,}", "rows refused"),
    ]
    tasks: Counter[str] = Counter()
    for task in result.tasks:  # one name may stand under several capabilities
        tasks[task.task] += task.rows
    kinds = {
        "Tasks": tasks,
        "Capabilities": result.capabilities,
        "Languages": result.languages,
        "Sources": result.sources,
    }
    return render(
        "stats.html.jinja",
        result=result,
        tiles=tiles,
        reference=REFERENCE if result.unit == "tokens" else None,
        length_chart=Markup(length_chart(result.lengths, result.unit, "lengths")),
        answer_chart=Markup(length_chart(result.answers, result.unit, "answers")) if result.answers else None,
        turns_chart=Markup(turns_chart(result.turns, "turns")) if result.conversations else None,
        kinds=[Markup(ranking_chart(counts, what, what.lower())) for what, counts in kinds.items()],
        areas=Markup(ranking_chart(result.areas, "Areas", "areas")) if result.areas else None,
        topics=Markup(ranking_chart(result.topics, "Topics", "topics")) if result.topics else None,
    )
