"""How charts look, and how a matplotlib figure becomes an SVG inside the page.

Colours are drawn as placeholders and written as CSS variables, so that a chart follows the page's light or
dark colours. Text stays text. The bytes depend on the figure only: no dates, no random ids.
"""

from __future__ import annotations

import contextlib
import io
import re
import textwrap
import warnings
from collections.abc import Iterator
from xml.etree import ElementTree

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from megatron_redone.reporting.templating import printable

# Placeholder -> CSS variable; `templates/report.css` gives each a value for light and for dark pages.
INK, FAINT, PAPER = "#010101", "#020202", "#030303"
BLUE, ORANGE, GREEN, PURPLE, GREY = "#040404", "#050505", "#060606", "#070707", "#080808"
_VARIABLES = {
    INK: "ink",
    FAINT: "faint",
    PAPER: "paper",
    BLUE: "blue",
    ORANGE: "orange",
    GREEN: "green",
    PURPLE: "purple",
    GREY: "grey",
}
LANES = (BLUE, ORANGE, GREEN, PURPLE, GREY)

_SETTINGS = {
    "svg.hashsalt": "megatron_redone",
    "svg.fonttype": "none",
    "text.parse_math": False,
    "axes.unicode_minus": False,
    "font.size": 11,
    "axes.titlesize": 11,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": FAINT,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "savefig.facecolor": "none",
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "grid.color": FAINT,
    "grid.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "lines.linewidth": 2.0,
    "path.simplify": True,
}
POINTS_PER_INCH = 72
_REFERENCE = re.compile(r"#([\w.-]+)")
_LONG_NUMBER = re.compile(r"-?\d+\.\d{3,}")
_FONT = re.compile(r"^font: (?:\w+ )?([\d.]+px) .*$")


@contextlib.contextmanager
def chart_style() -> Iterator[None]:
    """The house's chart settings; a figure is made and written inside.

    A glyph that matplotlib's font lacks is no fault: the browser draws the text with its own fonts.
    """
    with matplotlib.rc_context(_SETTINGS), warnings.catch_warnings():  # type: ignore[arg-type]
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        yield


def new_figure(width: float, height: float) -> tuple[Figure, Axes]:
    """An empty figure of `width` x `height` points with one pair of axes."""
    figure = Figure(figsize=(width / POINTS_PER_INCH, height / POINTS_PER_INCH), layout="constrained")
    return figure, figure.add_subplot()


def to_svg(figure: Figure, name: str, title: str) -> str:
    """The figure as an `<svg>` element without namespaces, comments or metadata.

    Args:
        name: letters, digits and dashes; the prefix of every id in the element, unique in a page.
        title: what the chart shows, for readers who do not see it.
    """
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg")
    root = ElementTree.fromstring(buffer.getvalue())  # comments are dropped
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag.endswith(("}metadata", "}style")):
                parent.remove(child)
    values = " ".join(value for element in root.iter() for value in element.attrib.values())
    used = set(_REFERENCE.findall(values))
    for element in root.iter():
        element.tag = element.tag.rsplit("}", 1)[-1]
        element.text, element.tail = (element.text if element.tag == "text" else None), None
        element.attrib = dict(_attributes(element.attrib, name, used))
    root.attrib = {"viewBox": root.attrib["viewBox"], "role": "img", "aria-label": printable(title)}
    caption = ElementTree.Element("title")
    caption.text = printable(title)
    root.insert(0, caption)
    return ElementTree.tostring(root, encoding="unicode", short_empty_elements=False)


def _attributes(found: dict[str, str], name: str, used: set[str]) -> Iterator[tuple[str, str]]:
    """Attributes without namespaces, with ids of this chart, page colours and two decimals."""
    for key, value in found.items():
        key = key.rsplit("}", 1)[-1]
        if key == "id":
            if value in used:
                yield key, f"{name}-{value}"
        elif key == "style":
            yield key, _page_style(value)
        elif key in ("href", "clip-path"):
            yield key, value.replace("#", f"#{name}-")
        else:
            yield key, _LONG_NUMBER.sub(lambda match: f"{float(match.group()):.2f}", " ".join(value.split()))


def _page_style(style: str) -> str:
    """A style attribute with the page's colours and, for text, the page's font."""
    kept = [part.strip() for part in style.split(";") if not part.strip().startswith("font-family")]
    text = "; ".join(_FONT.sub(r"font-size: \1", part) for part in kept)
    for placeholder, variable in _VARIABLES.items():
        text = text.replace(placeholder, f"var(--{variable})")
    return text


def short(label: str, length: int) -> str:
    """A label of one line: printable, at most `length` characters."""
    line = " ".join(printable(label).split())
    return line if len(line) <= length else line[: max(length - 1, 1)] + "…"


def stacked(label: str, width: int) -> str:
    """A label of at most two lines of `width` characters, broken at spaces and after underscores."""
    lines = textwrap.wrap(printable(label).replace("_", "_ "), width, break_long_words=False)
    kept = [line.replace("_ ", "_") for line in lines]
    kept = kept if len(kept) <= 2 else [kept[0], "".join(kept[1:])]
    return "\n".join(short(line, width) for line in kept)
