"""evaluation.html: one self-contained page about a benchmark. It needs no script, no network and no other file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from megatron_redone.common.files import atomic_write_text
from megatron_redone.reporting.benchmark_schema import BenchmarkResult, Failure
from megatron_redone.reporting.templating import render

COMMON = ("score", "interval", "num_rows", "parse_rate", "official_errors")
SHOWN_CHARACTERS = 3000


@dataclass(frozen=True)
class Published:
    """Figures of others to set beside a result.

    Attributes:
        source: where they stand.
        figures: by model, by part of the benchmark, in 0..100; the parts are the same for all models.
    """

    source: str
    figures: Mapping[str, Mapping[str, float]]


def write_evaluation_page(
    result: BenchmarkResult,
    failures: Sequence[Failure],
    baselines: Mapping[str, str],
    published: Published,
    path: Path,
) -> None:
    """Writes the page.

    Args:
        failures: rows to read, of any task.
        baselines: what each baseline of the result is, in a few words.
    """
    atomic_write_text(path, evaluation_html(result, failures, baselines, published))


def evaluation_html(
    result: BenchmarkResult, failures: Sequence[Failure], baselines: Mapping[str, str], published: Published
) -> str:
    """The page as text."""
    of_task: dict[str, list[Failure]] = {}
    for failure in failures:
        of_task.setdefault(failure.file, []).append(failure)
    counts = result.settings.get("counts", {})
    return render(
        "evaluation.html.jinja",
        result=result,
        names=list(result.baselines),
        meanings={name: baselines.get(name, "") for name in result.baselines},
        published=published,
        published_parts=list(next(iter(published.figures.values()), {})),
        parts={file: _parts(task) for file, task in result.tasks.items()},
        failures=of_task,
        errors=sum(task["official_errors"] for task in result.tasks.values()),
        counts={name: count for name, count in counts.items() if count},
        settings={name: value for name, value in result.settings.items() if name != "counts"},
        gaps=bool(result.missing or counts.get("rows_without_an_answer")),
        shown=SHOWN_CHARACTERS,
    )


def _parts(task: Mapping[str, Any]) -> dict[str, float]:
    """The parts of a metric, without the columns that every task has and a part that is the score by another name."""
    parts = {name: value for name, value in task.items() if name not in COMMON}
    return parts if len(parts) > 1 else {}
