"""The table of an ablation as markdown, and the sentences that page, table and terminal share."""

from __future__ import annotations

from collections.abc import Sequence

from megatron_redone.reporting.ablation_schema import AblationResult, ArmResult, ArmScore, ScoreRow
from megatron_redone.reporting.tables import number, signed
from megatron_redone.reporting.templating import duration, printable

HOW_TO_READ = (
    "Points of 100: the mean over the seeds with its 95% interval over rows and seeds (bootstrap; rows are drawn alike "
    "for all arms). Below it the difference to the baseline with its paired interval. No conclusion is drawn where the "
    "intervals of an arm and the baseline overlap, even if the paired interval leaves 0 out."
)


def interval_text(interval: tuple[float, float]) -> str:
    """`41.0 to 48.2`."""
    return f"{number(interval[0])} to {number(interval[1])}"


def difference_text(interval: tuple[float, float]) -> str:
    """`-1.2 to +4.0`."""
    return f"{signed(interval[0])} to {signed(interval[1])}"


def seeds_text(arm: ArmResult) -> str:
    """`3 seeds`, `one model`."""
    if arm.seeds == (None,):
        return "one model"
    return f"{len(arm.seeds)} seed{'' if len(arm.seeds) == 1 else 's'}" if arm.seeds else "not done"


def ablation_markdown(result: AblationResult) -> str:
    """Arms x groups, the orders that the paper reports, the paper's figures, and every task."""
    groups = [row for row in result.rows if row.level == "group"]
    lines = [f"# {_cell(result.name)}", "", HOW_TO_READ, "", *_arms_table(result, groups), ""]
    lines += [f"- {_cell(gap)}" for gap in result.gaps] + ([""] if result.gaps else [])
    if result.claims:
        lines += ["## Do the papers' orders show?", "", _line(["claimed", "here", "figures"]), "| --- | --- | --- |"]
        lines += [_line([_cell(claim.source), f"**{claim.shown}**", _cell(claim.told)]) for claim in result.claims]
        lines.append("")
    if result.paper is not None:
        lines += [f"## The paper's figures: {_cell(result.paper.source)}", "", *_paper_table(result), ""]
    details = [row for row in result.rows if row.level != "group"]
    lines += ["## By capability and task", "", *_task_table(result, details), ""]
    return "\n".join(lines)


def _arms_table(result: AblationResult, groups: Sequence[ScoreRow]) -> list[str]:
    """A row an arm, a column a group."""
    titles = [
        f"{_cell(row.title)} ({row.num_tasks} task{'' if row.num_tasks == 1 else 's'}, {row.num_rows} rows)"
        for row in groups
    ]
    lines = [_line(["arm", *titles, "models", "own compute (tokens a seed)", "own time"])]
    lines.append(_line(["---", *["---:"] * len(groups), "---", "---:", "---:"]))
    for place, arm in enumerate(result.arms):
        cells = [_score(row.scores[place]) for row in groups]
        own = f"{arm.compute_tokens:,}" if arm.compute_tokens else "none"
        lines.append(_line([_cell(arm.title), *cells, seeds_text(arm), own, duration(arm.seconds)]))
    return lines


def _score(score: ArmScore | None) -> str:
    if score is None:
        return "-"
    text = f"**{number(score.score)}** ({interval_text(score.interval)})"
    if score.difference is None or score.difference_interval is None:
        return text
    told = f"{signed(score.difference)} ({difference_text(score.difference_interval)})"
    return f"{text}<br>{told}, {score.verdict}"


def _paper_table(result: AblationResult) -> list[str]:
    assert result.paper is not None
    lines = [_line(["arm", *map(_cell, result.paper.columns)])]
    lines.append(_line(["---", *["---:"] * len(result.paper.columns)]))
    known = {arm.name: arm.title for arm in result.arms}
    for arm, figures in result.paper.arms.items():
        lines.append(_line([_cell(known.get(arm, arm)), *("-" if one is None else f"{one:.2f}" for one in figures)]))
    return lines


def _task_table(result: AblationResult, rows: Sequence[ScoreRow]) -> list[str]:
    lines = [_line(["task", "rows", *(_cell(arm.title) for arm in result.arms)])]
    lines.append(_line(["---", *["---:"] * (len(result.arms) + 1)]))
    marks = {"better": " ▲", "worse": " ▼", "no conclusion": "", None: ""}
    for row in rows:
        cells = [f"{number(one.score)}{marks[one.verdict]}" if one else "-" for one in row.scores]
        name = f"*{_cell(row.title)}*" if row.level == "capability" else _cell(row.title)
        lines.append(_line([name, str(row.num_rows), *cells]))
    return [*lines, "", "▲ better, ▼ worse than the baseline; no mark: no conclusion."]


def _line(entries: Sequence[str]) -> str:
    return "| " + " | ".join(entries) + " |"


def _cell(text: str) -> str:
    """Text that cannot end its cell or be read as HTML."""
    text = printable(text)
    for raw, safe in (("&", "&amp;"), ("<", "&lt;"), ("|", "\\|"), ("\n", " ")):
        text = text.replace(raw, safe)
    return text
