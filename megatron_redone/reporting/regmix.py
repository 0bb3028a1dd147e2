"""The result of a RegMix fit: its file, and a self-contained page about it.

A stage folder holds `fit.json` (RegMixResult), `predictions.jsonl` (RegMixPrediction) and `regmix.html`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from markupsafe import Markup

from megatron_redone.common.files import atomic_write_text
from megatron_redone.common.jsonl import read_jsonl
from megatron_redone.reporting.schema import ResultModel, read_result
from megatron_redone.reporting.svg import BLUE, GREY, INK, ORANGE, chart_style, new_figure, short, to_svg
from megatron_redone.reporting.templating import render

RESULT, PREDICTIONS, PAGE = "fit.json", "predictions.jsonl", "regmix.html"

SCATTER_SIZE = 300.0
BAR_WIDTH, BAR_HEIGHT = 420.0, 30.0

SetKind = Literal["out of fold", "test"]


class RegMixSet(ResultModel):
    """How well the regression orders the runs of a table."""

    name: str
    kind: SetKind
    """`out of fold`: the training runs, each predicted by trees that did not see it."""
    num_runs: int
    spearman: float
    """Rank correlation of predicted and measured losses."""
    mean_squared_error: float
    """Of the losses as they are; between models of different sizes it says nothing."""
    stopped_on: bool = False
    """The number of trees was chosen on this table."""


class RegMixMixture(ResultModel):
    """A mixture and what the regression says of it."""

    name: str
    weights: dict[str, float]
    predicted_loss: float


class RegMixResult(ResultModel):
    """`fit.json`."""

    target: dict[str, float]
    """Column of the losses -> its share of the target."""
    prior: dict[str, float]
    """Natural share of each domain."""
    prior_from: str
    num_runs: int
    iterations: int
    """Trees that count."""
    sets: tuple[RegMixSet, ...]
    mixtures: tuple[RegMixMixture, ...]
    """`best` first, then those it is compared with."""
    importance: dict[str, float]
    """Domain -> share of all the splits' gain that its weight brought."""
    settings: dict[str, Any]


class RegMixPrediction(ResultModel):
    """One line of `predictions.jsonl`."""

    set: str
    run: str
    measured: float
    predicted: float


def write_regmix_page(folder: Path) -> Path:
    """Writes `regmix.html` beside the result files of a fit.

    Raises:
        DataError: a result file is missing or breaks its schema.
    """
    result = read_result(folder / RESULT, RegMixResult)
    predictions = [RegMixPrediction(**value) for _, value in read_jsonl(folder / PREDICTIONS)]
    scatters = []
    for place, table in enumerate(result.sets):
        points = [point for point in predictions if point.set == table.name]
        scatters.append((table, Markup(scatter_chart(table, points, f"scatter-{place}"))))
    page = render(
        "regmix.html.jinja",
        result=result,
        best=result.mixtures[0],
        domains=sorted(result.prior, key=lambda domain: -result.mixtures[0].weights[domain]),
        weights_chart=Markup(weights_chart(result)),
        scatters=scatters,
    )
    path = folder / PAGE
    atomic_write_text(path, page)
    return path


def scatter_chart(table: RegMixSet, points: list[RegMixPrediction], name: str) -> str:
    """Predicted against measured losses of a table's runs."""
    with chart_style():
        figure, axes = new_figure(SCATTER_SIZE, SCATTER_SIZE)
        color = ORANGE if table.kind == "test" else BLUE
        axes.plot(
            [point.predicted for point in points], [point.measured for point in points], "o", color=color,
            markersize=4, alpha=0.55, markeredgewidth=0,
        )  # fmt: skip
        axes.set_xlabel("predicted loss")
        axes.set_ylabel("measured loss")
        axes.set_title(short(table.name, 40), loc="left")
        axes.grid(alpha=0.35)
        text = f"Spearman {table.spearman:.3f}"
        axes.annotate(text, (0.04, 0.93), xycoords="axes fraction", color=INK, fontweight="bold")
        title = f"Predicted and measured losses of {table.num_runs} runs ({table.name}); rank correlation {text}"
        return to_svg(figure, name, title)


def weights_chart(result: RegMixResult) -> str:
    """The best mixture (bars) beside the natural one (grey)."""
    best = result.mixtures[0].weights
    domains = sorted(best, key=lambda domain: best[domain])
    with chart_style():
        figure, axes = new_figure(BAR_WIDTH, BAR_HEIGHT * len(domains) + 60)
        for y, domain in enumerate(domains):
            axes.barh(y + 0.19, best[domain], height=0.36, color=BLUE)
            axes.barh(y - 0.19, result.prior[domain], height=0.36, color=GREY)
            longest = max(best[domain], result.prior[domain])
            text = f"{100 * best[domain]:.1f}% ({100 * result.prior[domain]:.1f}%)"
            axes.annotate(text, (longest, y), (4, 0), textcoords="offset points", va="center")
        axes.set_yticks(range(len(domains)), [short(domain, 26) for domain in domains])
        axes.set_xlim(0, max(*best.values(), *result.prior.values()) * 1.38)
        axes.set_title("upper bar: best predicted, lower bar and brackets: natural", loc="left")
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="x", alpha=0.35)
        shares = ", ".join(f"{domain} {100 * best[domain]:.1f}%" for domain in reversed(domains))
        return to_svg(figure, "weights", f"Best predicted mixture: {shares}")
