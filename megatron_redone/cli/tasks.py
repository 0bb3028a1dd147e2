"""`redone tasks`."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import get_args

from rich.console import Console
from rich.table import Table
from rich.text import Text

from megatron_redone.common.errors import DataError, InputError, SandboxUnavailableError
from megatron_redone.tasks.base import RewardKind, Row, Task
from megatron_redone.tasks.catalogue import TASKS, get_task
from megatron_redone.tasks.examples import example_row
from megatron_redone.tasks.fields import Field
from megatron_redone.tasks.prompts import LANGUAGES
from megatron_redone.tasks.reading import find_row
from megatron_redone.tasks.row import nearest

REWARD_KINDS: tuple[str, ...] = get_args(RewardKind)
WIDTH_OF_FILES = 140
"""Columns where the output is no terminal: no line is broken."""

_UNPRINTABLE = re.compile("[\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f\\u202a-\\u202e\\u2066-\\u2069\\ud800-\\udfff]")

CONSOLE = Console()
if not CONSOLE.is_terminal:
    CONSOLE = Console(width=WIDTH_OF_FILES)


def list_tasks(capability: str | None, reward: str | None, language: str | None) -> None:
    """Prints the tasks that pass the filters, and their numbers by capability and reward kind.

    Raises:
        InputError: a filter names nothing that there is.
    """
    capabilities = tuple(dict.fromkeys(task.capability for task in TASKS.values()))
    for option, value, known in (
        ("--capability", capability, capabilities),
        ("--reward", reward, REWARD_KINDS),
        ("--language", language, LANGUAGES),
    ):
        if value is not None and value not in known:
            raise InputError(f"{option} {value} is none of {', '.join(known)}{nearest(value, known)}")
    chosen = [
        task
        for task in TASKS.values()
        if capability in (None, task.capability)
        and reward in (None, task.reward_kind)
        and (language is None or language in task.languages)
    ]
    for shown in dict.fromkeys(task.capability for task in chosen):
        CONSOLE.print(_task_table(shown, [task for task in chosen if task.capability == shown]))
    CONSOLE.print(counts_table(chosen))


def _task_table(capability: str, tasks: Sequence[Task]) -> Table:
    table = Table(title=f"{capability}, {len(tasks)}", title_justify="left", title_style="bold")
    table.add_column("task", no_wrap=True, min_width=max(len(name) for name in TASKS))
    for name in ("answer", "reward", "scorer", "languages", "in papers"):
        table.add_column(name)
    for task in tasks:
        languages, named = " ".join(task.languages), "yes" if task.paper else "-"
        table.add_row(task.name, task.answer_format, task.reward_kind, task.scorer.name, languages, named)
    return table


def counts_table(tasks: Sequence[Task]) -> Table:
    """Number of tasks by capability and reward kind, with sums."""
    counts: Counter[tuple[str, str]] = Counter((task.capability, task.reward_kind) for task in tasks)
    table = Table("capability", *REWARD_KINDS, "tasks")
    for capability in dict.fromkeys(task.capability for task in tasks):
        row = [counts[capability, kind] for kind in REWARD_KINDS]
        table.add_row(capability, *map(_count, row), str(sum(row)))
    sums = [sum(number for (_, found), number in counts.items() if found == kind) for kind in REWARD_KINDS]
    table.add_section()
    table.add_row("all", *map(_count, sums), str(sum(sums)), style="bold")
    return table


def _count(number: int) -> str:
    return str(number) if number else "-"


def show_task(name: str, language: str | None) -> None:
    """Prints one task.

    Raises:
        InputError: no such task or language.
    """
    task = get_task(name)
    if language is not None and language not in task.languages:
        raise InputError(f"{name} has no prompt in {language!r}; it has {', '.join(task.languages)}")
    CONSOLE.print(f"[bold]{task.name}[/]  {task.capability}, {task.answer_format}", highlight=False)
    _print_pairs(_about(task))
    CONSOLE.print("fields of a row", style="bold")
    _print_pairs((field.name, _field_text(field)) for field in task.fields)
    for code in [language] if language else task.languages:
        CONSOLE.rule(f"prompt, {code}", align="left")
        _print_plain(task.template_text(code))
        _print_row(task, example_row(name, code), f"example, {code}", None)


def _about(task: Task) -> Iterable[tuple[str, str]]:
    if task.paper:
        yield "the papers call it", task.paper
    if task.benchmark:
        yield "asked alike by", task.benchmark
    yield "reward", f"{task.reward_kind}, scored by {task.scorer.name}"
    yield "accepted answer", task.format_rule
    if task.allow_empty_answer:
        yield "gold answer", "may be empty"


def _field_text(field: Field) -> str:
    parts = [{"texts": "list of texts", "objects": "list of JSON objects"}.get(field.kind, field.kind)]
    if field.default is None:
        parts.append("required")
    elif field.default in ("", ()):
        parts.append("may be left out")
    elif isinstance(field.default, dict):
        parts.append("by default " + " / ".join(", ".join(items) for items in field.default.values()))
    else:
        parts.append(f"by default {field.default}")
    if not field.shown:
        parts.append("for the scorer alone, not shown")
    return "; ".join(parts)


def render_row(place: str, answer: str | None, model: Path | None) -> None:
    """Prints the row at a place as the model sees it, with its gold answer and what that (and `answer`) earns.

    Raises:
        InputError: no such row, or an unknown task.
        DataError: the row is not valid; what can be shown of it is printed first.
    """
    row, where = find_row(place)
    try:
        task = get_task(row.task)
    except InputError as error:
        raise InputError(f"{where}: {error}") from error
    problems = task.validate(row)
    if problems:
        if not any(problem for field in task.fields for problem in field.problems(row)) and row.language in LANGUAGES:
            _print_prompt(task, row, None)
        listed = "\n".join(f"  - {problem}" for problem in problems)
        raise DataError(
            f"{where}: this row of {task.name} cannot be used:\n{listed}\nSee `redone tasks show {task.name}`"
        )
    _print_row(task, row, f"{row.id}, a row of {task.name} in {row.language}", model)
    if answer is not None:
        _print_answer(task, row, "your answer", answer)


def _print_row(task: Task, row: Row, title: str, model: Path | None) -> None:
    CONSOLE.rule(title, align="left")
    _print_prompt(task, row, model)
    if row.answer == "":
        CONSOLE.print("no gold answer: rewards and evaluation can use this row, training on answers cannot")
    else:
        _print_answer(task, row, "gold answer", task.target(row))


def _print_prompt(task: Task, row: Row, model: Path | None) -> None:
    messages = task.render(row)
    if model is None:
        for message in messages:
            CONSOLE.print(f"[{message['role']}]", style="bold cyan", markup=False)
            _print_plain(message["content"])
        return
    from megatron_redone.data.chat_template import ChatTemplate
    from megatron_redone.data.tokenizer import load_tokenizer

    template = ChatTemplate(load_tokenizer(model))
    CONSOLE.print(f"[prompt, {len(template.prompt_ids(messages))} tokens]", style="bold cyan", markup=False)
    _print_plain(template.render(messages, add_generation_prompt=True))


def _print_answer(task: Task, row: Row, title: str, text: str) -> None:
    CONSOLE.print(f"[{title}]", style="bold green", markup=False)
    _print_plain(text)
    parsed = task.parse(text, row)
    _print_pairs([("read as", "nothing: the format is not kept" if parsed is None else repr(parsed))])
    try:
        score = task.score([text], [row])[0]
    except SandboxUnavailableError as error:
        _print_pairs([("score", f"none: {error}")])
        return
    reason = f" ({score.reason})" if score.reason else ""
    _print_pairs([("score", f"{score.value:.2f} by {task.scorer.name}{reason}")])


def _print_pairs(pairs: Iterable[tuple[str, str]]) -> None:
    table = Table.grid(padding=(0, 2))
    for name, value in pairs:
        table.add_row(Text(f"  {name}"), Text(_printable(value)))
    CONSOLE.print(table)


def _print_plain(text: str) -> None:
    """The text as it is, not broken into lines."""
    CONSOLE.print(Text(_printable(text)), soft_wrap=True)


def _printable(text: str) -> str:
    """Control characters and half characters as escapes, so that no row can steer the terminal."""
    return _UNPRINTABLE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
