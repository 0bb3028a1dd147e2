"""Charts of data sets: lengths on a log axis, and what there is most of. Each returns one `<svg>` element."""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from megatron_redone.reporting.data_schema import LengthResult
from megatron_redone.reporting.plots import ROW_HEIGHT, WIDTH
from megatron_redone.reporting.svg import BLUE, GREEN, INK, ORANGE, PAPER, chart_style, new_figure, short, to_svg

TOP = 10


def length_chart(lengths: LengthResult, unit: str, name: str) -> str:
    """Number of things by length on a log axis, with the median and the 95th percentile as lines."""
    summary = lengths.summary
    with chart_style():
        figure, axes = new_figure(WIDTH, 240)
        axes.set_xscale("log")
        for bar in lengths.bars:
            axes.bar(
                bar.low, bar.count, width=bar.high - bar.low, align="edge", color=BLUE, edgecolor=PAPER, linewidth=0.8
            )
        highest = max((bar.count for bar in lengths.bars), default=1)
        axes.set_ylim(0, highest * 1.22)
        marks = ((summary.median, "median", "-", GREEN, "right"), (summary.p95, "95%", "--", ORANGE, "left"))
        for value, label, style, color, side in marks:
            place = max(value, 1)
            axes.axvline(place, color=color, linestyle=style, linewidth=1.6)
            offset = (-4 if side == "right" else 4, -2)
            axes.annotate(
                f"{label} {value:,}", (place, highest * 1.2), offset, textcoords="offset points", ha=side, va="top",
                color=INK, fontweight="bold",
            )  # fmt: skip
        span = lengths.bars[-1].high / lengths.bars[0].low if lengths.bars else 1.0
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0,) if span > 300 else (1.0, 2.0, 5.0)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        axes.set_xlabel(f"{unit} (log axis)")
        axes.grid(axis="y", alpha=0.4)
        axes.set_axisbelow(True)
        title = f"{summary.count} lengths in {unit}: median {summary.median}, 95th percentile {summary.p95}"
        return to_svg(figure, name, title)


def ranking_chart(counts: Mapping[str, int], what: str, name: str, top: int = TOP) -> str:
    """The largest counts as bars with their share of all; what is beyond the top is one line of the title."""
    total = max(sum(counts.values()), 1)
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    shown = ranked[:top]
    with chart_style():
        figure, axes = new_figure(WIDTH, ROW_HEIGHT * (len(shown) + 1) + 30)
        for y, (_, count) in enumerate(shown):
            axes.barh(y, count, color=BLUE, edgecolor=PAPER, linewidth=1.2, height=0.66)
            text = f"{count:,} ({100 * count / total:.1f}%)"
            axes.annotate(text, (count, y), (4, 0), textcoords="offset points", va="center", fontsize=10)
        axes.set_yticks(range(len(shown)), [short(label, 34) for label, _ in shown])
        axes.set_ylim(len(shown) - 0.4, -0.6)
        axes.set_xlim(0, max((count for _, count in shown), default=1) * 1.5)
        axes.set_xticks([])
        axes.spines[["left", "bottom"]].set_visible(False)
        axes.tick_params(axis="y", length=0)
        rest = sum(count for _, count in ranked[top:])
        told = f"{len(shown)} of {len(ranked)}" + (f", others {rest:,}" if rest else "")
        axes.set_title(f"{what}: {told}", loc="left")
        return to_svg(figure, name, f"{what}: " + ", ".join(f"{label} {count}" for label, count in shown))


def turns_chart(turns: Mapping[str, int], name: str) -> str:
    """Conversations by their number of answers; from 10 on together."""
    grouped: dict[int, int] = {}
    for answers, count in turns.items():
        place = min(int(answers), TOP)
        grouped[place] = grouped.get(place, 0) + count
    with chart_style():
        figure, axes = new_figure(WIDTH, 210)
        for place, count in grouped.items():
            axes.bar(place, count, color=BLUE, edgecolor=PAPER, width=0.8)
            axes.annotate(f"{count:,}", (place, count), (0, 3), textcoords="offset points", ha="center", fontsize=9)
        axes.set_xticks(range(1, TOP + 1), [*map(str, range(1, TOP)), f"{TOP}+"])
        axes.set_xlim(0.4, TOP + 0.6)
        axes.set_ylim(0, max(grouped.values(), default=1) * 1.15)
        axes.set_xlabel("answers in a conversation")
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        return to_svg(figure, name, f"Conversations by number of answers: {grouped}")
