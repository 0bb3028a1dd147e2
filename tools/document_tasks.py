"""Writes docs/tasks.md from the task catalogue, so that the page cannot disagree with the code.

    python tools/document_tasks.py

Run it after a change of `megatron_redone/tasks/` or of a scorer; a test fails while the page is behind.
"""

from __future__ import annotations

import inspect
from pathlib import Path

from megatron_redone.common.files import atomic_write_text
from megatron_redone.curation.synthesize.config import TASK_NAMES
from megatron_redone.tasks.base import Field, Task
from megatron_redone.tasks.catalogue import TASKS

PAGE = Path(__file__).resolve().parents[1] / "docs" / "tasks.md"

INTRODUCTION = """\
# The task catalogue

<!-- Written by tools/document_tasks.py. Change the catalogue, not this page. -->

A task is declared once, in `megatron_redone/tasks/`. Training targets, rewards, evaluation, diagnosis and soft labels
all use that one declaration: the same prompt, the same parser, the same scorer. `redone tasks list` and
`redone tasks show NAME` print what stands here.

A row of a task is one JSON object in a line of a JSONL file (broken into lines here):

```json
{row}
```

`rationale` (a thought, which SFT puts between `<think>` and `</think>` before the answer), `source` and `weight` may be
left out. A row that lacks a field, has a wrong type, names an unknown field, or whose gold answer does not earn full
marks by its own parser and scorer is refused with file, line and reason, and counted in the manifest of the stage.
Past the share `max_refused_share` of a recipe the run stops.

An answer is what follows the last `</think>`; a `<think>` that is never closed is a failure of the format and scores 0.
"""

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
}


def tasks_page() -> str:
    """The whole page."""
    sections = [INTRODUCTION.replace("{row}", EXAMPLE_ROW), _summary()]
    for capability in dict.fromkeys(task.capability for task in TASKS.values()):
        sections.append(f"## {_words(capability)}\n")
        sections += [_task_section(task) for task in TASKS.values() if task.capability == capability]
    return "\n".join([*sections, _scorers()])


def _summary() -> str:
    rows = [
        f"| [{task.name}](#{task.name}) | {task.answer_format} | {task.reward_kind} | {task.scorer.name} | "
        f"{task.benchmark or '-'} | {'yes' if task.name in TASK_NAMES else 'no'} |"
        for task in TASKS.values()
    ]
    columns = ["task", "answer", "reward", "scorer", "asked alike by", "generated"]
    head = ["| " + " | ".join(columns) + " |", "|---" * len(columns) + "|"]
    note = (
        f'{len(TASKS)} tasks, each in English and Chinese. Under "asked alike by" stands the file of SNS-Bench or of\n'
        "RedTrans-Bench that asks the same; our scores are not those of the official scorers, which are not built\n"
        'yet. For tasks marked "generated" the stage `synthesize` writes rows.'
    )
    return "\n".join([note, "", *head, *rows, ""])


def _task_section(task: Task) -> str:
    lines = [f"### {task.name}", ""]
    lines += ["| field | kind | |", "|---|---|---|"]
    lines += [f"| `{field.name}` | {_kind(field)} | {_remarks(field)} |" for field in task.fields]
    lines += ["", f"Gold answer: {_gold(task)}. Asked format: {task.format_rule}.", ""]
    for language, template in task.templates.items():
        lines += [f"Prompt, `{language}`:", "", f"```text\n{template}\n```", ""]
    return "\n".join(lines)


def _kind(field: Field) -> str:
    if field.kind == "texts":
        return SHOWN_AS[field.joined] if field.shown else "list"
    return "whole number" if field.kind == "integer" else "text"


def _remarks(field: Field) -> str:
    remarks = []
    if field.default is not None:
        default = list(field.default) if isinstance(field.default, tuple) else field.default
        remarks.append(f"default `{default!r}`")
    if field.allow_empty:
        remarks.append("may be empty")
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
