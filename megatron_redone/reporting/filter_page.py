"""filter.html: what a filter run read, dropped and kept, with samples; made of filter.json alone."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from megatron_redone.common.files import atomic_write_text
from megatron_redone.reporting.schema import ResultModel, read_result
from megatron_redone.reporting.svg import BLUE, GREY, ORANGE, chart_style, new_figure, to_svg
from megatron_redone.reporting.templating import render

RESULT = "filter.json"
PAGE = "filter.html"
WIDTH = 520


class Size(ResultModel):
    """Documents, with their characters and units (words; single Han and kana characters)."""

    documents: int
    characters: int
    units: int


class Dropped(Size):
    """What one rule dropped."""

    step: str
    reason: str


class Sample(ResultModel):
    """A text for review."""

    id: str
    source: str
    """File and line."""
    reason: str
    detail: str
    characters: int
    """Length of the whole text, of which `text` is the beginning."""
    text: str


class Histogram(ResultModel):
    """Documents by mean log-probability of a token: (smallest of the bin in nats, documents)."""

    kept: tuple[tuple[float, int], ...] = ()
    dropped: tuple[tuple[float, int], ...] = ()


class FilterResult(ResultModel):
    """filter.json. `read` is the sum of `kept` and `dropped`, in documents and units."""

    read: Size
    kept: Size
    dropped: tuple[Dropped, ...]
    changed: dict[str, int]
    """Counts of what was taken out or masked in texts that passed the rules."""
    refused: int
    refused_messages: tuple[str, ...]
    lengths: dict[str, tuple[tuple[float, int], ...]]
    """`read` and `kept` -> (smallest length of the bin in units, documents)."""
    likelihoods: dict[str, Histogram]
    """By language."""
    bounds: dict[str, tuple[float | None, float | None]]
    """language -> what the language model's filter keeps, in nats a token."""
    samples: dict[str, tuple[Sample, ...]]
    """By reason, and under `kept`."""
    shards: tuple[str, ...]


def write_filter_page(folder: Path) -> Path:
    """Writes filter.html beside filter.json.

    Raises:
        DataError: filter.json is missing or breaks its schema.
    """
    result = read_result(folder / RESULT, FilterResult)
    path = folder / PAGE
    atomic_write_text(path, filter_page(result, folder.name))
    return path


def filter_page(result: FilterResult, name: str) -> str:
    """The page as text."""
    return render(
        "filter.html.jinja",
        name=name,
        **account_view(result, "lengths"),
        likelihood_charts=[
            (language, Markup(likelihood_chart(histogram, result.bounds.get(language), f"likelihood-{index}")))
            for index, (language, histogram) in enumerate(result.likelihoods.items())
        ],
    )


def account_view(result: FilterResult, chart: str) -> dict[str, Any]:
    """What `filter_account.html.jinja` shows of a result, and the chart of lengths under the name `chart`."""
    return {
        "result": result,
        "rows": _rows(result),
        "masked": {kind: count for kind, count in result.changed.items() if "/" not in kind},
        "languages": {
            kind.partition("/")[2]: count for kind, count in result.changed.items() if kind.startswith("kept/")
        },
        "length_chart": Markup(length_chart(result, chart)) if result.lengths else None,
    }


def _rows(result: FilterResult) -> list[tuple[str, str, Size, float, int]]:
    """(step, reason, what it dropped, share of all documents, documents left after it)."""
    left = result.read.documents
    rows: list[tuple[str, str, Size, float, int]] = []
    for entry in result.dropped:
        left -= entry.documents
        rows.append((entry.step, entry.reason, entry, entry.documents / max(result.read.documents, 1), left))
    return rows


def length_chart(result: FilterResult, name: str) -> str:
    """Documents by length, before and after; both axes logarithmic in the length alone."""
    with chart_style():
        figure, axes = new_figure(WIDTH, 230)
        for name, color in (("read", GREY), ("kept", BLUE)):
            bins = [(max(edge, 0.5), count) for edge, count in result.lengths.get(name, ())]
            bins.append((bins[-1][0] * 2**0.5, 0) if bins else (1.0, 0))
            axes.step([edge for edge, _ in bins], [count for _, count in bins], where="post", color=color, label=name)
        axes.set_xscale("log", base=2)
        ticks = [4**power for power in range(16) if 4**power <= axes.get_xlim()[1]]
        axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
        axes.minorticks_off()
        axes.set_ylim(bottom=0)
        axes.set_xlabel("units in a document (words; Han characters)")
        axes.set_ylabel("documents")
        axes.grid(axis="y", alpha=0.35)
        axes.legend(frameon=False)
        return to_svg(figure, name, "Documents by length, read and kept")


def likelihood_chart(histogram: Histogram, bounds: Sequence[float | None] | None, name: str) -> str:
    """Documents by mean log-probability of a token, kept ones and dropped ones on top; bounds as dashed lines."""
    with chart_style():
        figure, axes = new_figure(WIDTH, 210)
        kept = dict(histogram.kept)
        dropped = dict(histogram.dropped)
        edges = sorted(kept.keys() | dropped.keys())
        width = min((right - left for left, right in itertools.pairwise(edges)), default=0.25)
        below = [kept.get(edge, 0) for edge in edges]
        axes.bar(edges, below, width, align="edge", color=BLUE, label="kept")
        axes.bar(edges, [dropped.get(e, 0) for e in edges], width, below, align="edge", color=ORANGE, label="dropped")
        for bound in bounds or ():
            if bound is not None:
                axes.axvline(bound, color=GREY, linestyle="--", linewidth=1.3)
        axes.set_xlabel("mean log-probability of a token, nats")
        axes.set_ylabel("documents")
        axes.grid(axis="y", alpha=0.35)
        axes.legend(frameon=False)
        return to_svg(figure, name, "Documents by likelihood")
