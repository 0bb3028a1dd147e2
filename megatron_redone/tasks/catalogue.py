"""The catalogue: every task by name, in one plain dictionary."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from difflib import get_close_matches

from megatron_redone.common.errors import InputError, SandboxUnavailableError
from megatron_redone.scoring.unit_tests import check_sandbox
from megatron_redone.tasks import (
    chat,
    comments_and_notes,
    content_understanding,
    creator,
    dialogue,
    general,
    information_extraction,
    instructions_and_code,
    machine_reading,
    matching,
    moderation,
    note_extraction,
    online,
    product_extraction,
    queries,
    reasoning,
    semantic_matching,
    sessions,
    slang_and_quality,
    translation,
    user_behaviour,
)
from megatron_redone.tasks.base import Task
from megatron_redone.tasks.row import Row

_MODULES = (
    content_understanding,
    moderation,
    comments_and_notes,
    queries,
    information_extraction,
    machine_reading,
    note_extraction,
    product_extraction,
    semantic_matching,
    matching,
    user_behaviour,
    sessions,
    dialogue,
    chat,
    translation,
    slang_and_quality,
    online,
    creator,
    general,
    reasoning,
    instructions_and_code,
)
"""In the order of the capabilities."""

TASKS: dict[str, Task] = {task.name: task for module in _MODULES for task in module.TASKS}


def get_task(name: str) -> Task:
    """The task of that name.

    Raises:
        InputError: no such task; the message names the nearest one.
    """
    if name in TASKS:
        return TASKS[name]
    close = get_close_matches(name, TASKS, n=1, cutoff=0.4)
    remedy = f"did you mean {close[0]!r}?" if close else f"known tasks: {', '.join(TASKS)}"
    raise InputError(f"task {name!r} is not in the catalogue; {remedy}")


def check_scorable(rows: Iterable[Row]) -> None:
    """Called before anything is generated: answers to all the rows can be scored here.

    Raises:
        SandboxUnavailableError: some rows ask for programs, and no sandbox is safe on this machine.
    """
    programs = Counter(row.task for row in rows if get_task(row.task).reward_kind == "sandbox")
    if programs:
        try:
            check_sandbox()
        except SandboxUnavailableError as error:
            found = ", ".join(f"{count} of {name}" for name, count in programs.items())
            raise SandboxUnavailableError(
                f"answers to {found} are programs that only a sandbox can judge: {error}."
                " Install bubblewrap, or leave these rows out of rewards and evaluation"
            ) from error
