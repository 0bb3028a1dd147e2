"""The commands of `redone tasks`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

tasks_app = typer.Typer(
    help="""The task catalogue: what a model is asked, how its answer is read, and what it earns.

    A task is declared once; training, rewards, evaluation and diagnosis use that one declaration.""",
    no_args_is_help=True,
)


@tasks_app.command("list")
def tasks_list_command(
    capability: Annotated[str | None, typer.Option(help="Only this one, for example dialogue.")] = None,
    reward: Annotated[
        str | None, typer.Option(help="Only this kind of reward: exact_match, metric, pattern or sandbox.")
    ] = None,
    language: Annotated[str | None, typer.Option(help="Only tasks with a prompt in this language: en or zh.")] = None,
) -> None:
    """Every task with its answer, reward and scorer, and how many there are of each capability and kind."""
    from megatron_redone.cli.tasks import list_tasks

    list_tasks(capability, reward, language)


@tasks_app.command("show")
def tasks_show_command(
    name: Annotated[str, typer.Argument(help="A task, for example note_security.")],
    language: Annotated[str | None, typer.Option(help="Only prompt and example of this language: en or zh.")] = None,
) -> None:
    """One task: its fields, its prompts, what it accepts and earns, and an example in each language."""
    from megatron_redone.cli.tasks import show_task

    show_task(name, language)


@tasks_app.command("render")
def tasks_render_command(
    row: Annotated[str, typer.Argument(help="FILE.jsonl:LINE (lines count from 1) or FILE.jsonl#ID.")],
    answer: Annotated[str | None, typer.Option(help="Score this answer as well.")] = None,
    model: Annotated[
        Path | None, typer.Option(help="Model folder: the prompt with its chat template and special tokens.")
    ] = None,
) -> None:
    """One row as the model sees it, its gold answer, how that is read back, and what it earns.

    A row that is not valid is shown as far as it goes, with all that is wrong with it; the exit code is 2.
    """
    from megatron_redone.cli.tasks import render_row

    render_row(row, answer, model)
