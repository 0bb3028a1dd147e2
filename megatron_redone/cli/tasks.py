"""`redone tasks`."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from megatron_redone.tasks.catalogue import TASKS, get_task

CONSOLE = Console()


def list_tasks() -> None:
    """Prints the catalogue as a table."""
    table = Table("task", "capability", "languages", "answer", "reward", "scorer")
    for task in TASKS.values():
        table.add_row(
            task.name,
            task.capability,
            " ".join(task.languages),
            task.answer_format,
            task.reward_kind,
            task.scorer.name,
        )
    CONSOLE.print(table)


def show_task(name: str) -> None:
    """Prints one task."""
    task = get_task(name)
    CONSOLE.print(f"[bold]{task.name}[/] ({task.capability}, {task.answer_format})")
    CONSOLE.print(f"reward: {task.reward_kind}, scored by {task.scorer.name}; answer: {task.format_rule}")
    for field in task.fields:
        optional = "" if field.default is None else f", default {field.default!r}"
        CONSOLE.print(f"  field {field.name}: {field.kind}{optional}", highlight=False)
    for language, template in task.templates.items():
        CONSOLE.print(f"template {language}:", style="bold")
        CONSOLE.print(template, markup=False, highlight=False)
