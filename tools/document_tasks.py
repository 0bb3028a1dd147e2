"""Writes docs/tasks.md from the task catalogue, so that the page cannot disagree with the code.

    python tools/document_tasks.py

Run it after a change of `megatron_redone/tasks/` or of a scorer; a test fails while the page is behind.
"""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import get_args

from megatron_redone.common.files import atomic_write_text
from megatron_redone.curation.synthesize.config import TASK_NAMES
from megatron_redone.scoring.constraint_checks import CHECKS
from megatron_redone.tasks.base import Field, RewardKind, Task
from megatron_redone.tasks.catalogue import TASKS

PAGE = Path(__file__).resolve().parents[1] / "docs" / "tasks.md"

INTRODUCTION = """\
# The task catalogue

<!-- Written by tools/document_tasks.py. Change the catalogue, not this page. -->

A task is declared once, in `megatron_redone/tasks/`. Training targets, rewards, evaluation, diagnosis and soft labels
all use that one declaration: the same prompt, the same parser, the same scorer. `redone tasks list` and
`redone tasks show NAME` print what stands here, with an example; `redone tasks render FILE.jsonl:LINE` (or
`FILE.jsonl#ID`) shows a row of yours as the model sees it, its gold answer, how that is read back, and what it earns.

A row of a task is one JSON object in a line of a JSONL file (broken into lines here):

```json
{row}
```

`rationale` (a thought, which SFT puts between `<think>` and `</think>` before the answer), `source` and `weight` may be
left out. Most label fields have a default (the label sets below); a row may bring others. A row that lacks a field, has
a wrong type, names an unknown field, or whose gold answer does not earn full marks by its own parser and scorer is
refused with file, line and reason, and counted in the manifest of the stage. Past the share `max_refused_share` of a
recipe the run stops.

An answer is what follows the last `</think>`; a `<think>` that is never closed is a failure of the format and scores 0.
"""
LEGEND = """\
The four kinds of reward are those of RedOne 2.0 (section 3.2.2). "The papers call it" names the task in RedOne's
table 1 and appendix A, in SNS-Bench, or in the general benchmarks of RedOne 2.0. Under "asked alike by" stands the file
of SNS-Bench or of RedTrans-Bench that asks the same; our scores are not those of the official scorers. For tasks marked
"generated" the stage `synthesize` writes rows. Programs are run in the sandbox ([sandbox.md](sandbox.md)); rows of
`code_generation` are checked by their syntax alone, because reading a file must not run what stands in it."""

EXAMPLE_ROW = (
    '{"id": "note_security-1", "task": "note_security", "language": "en",\n'
    ' "fields": {"title": "market day", "content": "nice butter cures every illness.",\n'
    '            "labels": ["spam", "false claim", "personal attack", "normal"]},\n'
    ' "answer": "false claim"}'
)

ANSWER_KINDS = {"text": "a text", "texts": "a list of texts", "integer": "a whole number", "number": "a number or text"}
SHOWN_AS = {
    "commas": "list, shown with commas",
    "lines": "list, shown one a line",
    "letters": "list, shown with letters A, B, ...",
    "literal": "list, shown as ['a', 'b']",
    "queries": "list, shown with numbers Q1:, Q2:, ...",
    "candidates": "list, shown with numbers N1:, N2:, ...",
}


def tasks_page() -> str:
    """The whole page."""
    sections = [INTRODUCTION.replace("{row}", EXAMPLE_ROW), _summary()]
    for capability in _capabilities():
        sections.append(f"## {_words(capability)}\n")
        sections += [_task_section(task) for task in TASKS.values() if task.capability == capability]
    return "\n".join([*sections, _constraints(), _scorers()])


def _summary() -> str:
    note = (
        f"{len(TASKS)} tasks, each in English and Chinese; {len(TASKS) - _num_directions()} if the two\n"
        "directions of a translation count as one. By capability and kind of reward:"
    )
    return "\n".join([note, "", *_counts(), "", LEGEND, "", *_task_table(), ""])


def _num_directions() -> int:
    """Tasks that are another one turned round: `x_en_zh` beside `x_zh_en`."""
    return sum(name.replace("_en_zh", "_zh_en") in TASKS for name in TASKS if name.endswith("_en_zh"))


def _counts() -> list[str]:
    kinds = get_args(RewardKind)
    counts = Counter((task.capability, task.reward_kind) for task in TASKS.values())
    lines = [_line(["capability", *kinds, "tasks"]), "|---" * (len(kinds) + 2) + "|"]
    for capability in _capabilities():
        row = [counts[capability, kind] for kind in kinds]
        lines.append(_line([_words(capability), *map(str, row), str(sum(row))]))
    sums = [sum(task.reward_kind == kind for task in TASKS.values()) for kind in kinds]
    return [*lines, _line(["all", *map(str, sums), str(sum(sums))])]


def _task_table() -> list[str]:
    columns = ["task", "capability", "answer", "reward", "scorer", "the papers call it", "asked alike by", "generated"]
    rows = [
        _line(
            [
                f"[{task.name}](#{task.name})",
                _words(task.capability),
                task.answer_format,
                task.reward_kind,
                task.scorer.name,
                task.paper or "-",
                task.benchmark or "-",
                "yes" if task.name in TASK_NAMES else "no",
            ]
        )
        for task in TASKS.values()
    ]
    return [_line(columns), "|---" * len(columns) + "|", *rows]


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _capabilities() -> list[str]:
    return list(dict.fromkeys(task.capability for task in TASKS.values()))


def _task_section(task: Task) -> str:
    lines = [f"### {task.name}", ""]
    lines += ["| field | kind | |", "|---|---|---|"]
    lines += [f"| `{field.name}` | {_kind(field)} | {_remarks(field)} |" for field in task.fields]
    lines += ["", f"Gold answer: {_gold(task)}. Asked format: {task.format_rule}.", ""]
    for language in task.languages:
        lines += [f"Prompt, `{language}`:", "", f"```text\n{task.template_text(language)}\n```", ""]
    return "\n".join(lines)


def _kind(field: Field) -> str:
    if field.kind == "objects":
        return "list of JSON objects"
    if field.kind == "texts":
        return SHOWN_AS[field.joined] if field.shown else "list"
    return "whole number" if field.kind == "integer" else "text"


def _remarks(field: Field) -> str:
    remarks = []
    if isinstance(field.default, Mapping):
        shown = (", ".join(items) for items in field.default.values())
        remarks.append("by default " + "; ".join(shown))
    elif field.default is not None:
        default = list(field.default) if isinstance(field.default, tuple) else field.default
        remarks.append(f"default `{default!r}`")
    if field.allow_empty:
        remarks.append("may be empty")
    if field.lead:
        remarks.append("without it, its heading goes too")
    if not field.shown:
        remarks.append("for the scorer, not shown")
    return ", ".join(remarks)


def _gold(task: Task) -> str:
    parts = [ANSWER_KINDS[task.answer_kind]]
    if task.allow_empty_answer:
        parts.append("may be empty")
    if task.options is not None and task.gold_in_options:
        parts.append("from the options")
    return ", ".join(parts)


def _constraints() -> str:
    lines = [
        "## Constraints",
        "",
        '`instruction_following` takes a list of objects such as `{"kind": "words", "minimum": 20}`:',
        "",
        "| kind | settings | kept by |",
        "|---|---|---|",
    ]
    for name, check in CHECKS.items():
        settings = list(inspect.signature(check).parameters.values())[1:]
        shown = ", ".join(f"`{item.name}`" for item in settings)
        lines.append(_line([f"`{name}`", shown or "-", " ".join((inspect.getdoc(check) or "").split())]))
    return "\n".join([*lines, ""])


def _scorers() -> str:
    found = {task.scorer.name: task.scorer for task in TASKS.values()}
    lines = ["## Scorers", "", "A score is the reward of one answer, 0 to 1; the aggregate is the value in tables.", ""]
    for name, scorer in found.items():
        text = (inspect.getdoc(type(scorer)) or "").partition("\n\nAttributes:")[0]
        lines.append(f"- **{name}**: {' '.join(text.split())}")
    return "\n".join(lines) + "\n"


def _words(name: str) -> str:
    return name.replace("_", " ").capitalize()


if __name__ == "__main__":
    atomic_write_text(PAGE, tasks_page())
    print(f"{PAGE.name}: {len(TASKS)} tasks")
