"""The catalogue: every task by name, in one plain dictionary."""

from __future__ import annotations

from difflib import get_close_matches

from megatron_redone.common.errors import InputError
from megatron_redone.tasks import (
    content_understanding,
    dialogue,
    general,
    information_extraction,
    online,
    semantic_matching,
    translation,
    user_behaviour,
)
from megatron_redone.tasks.base import Task

TASKS: dict[str, Task] = {
    task.name: task
    for tasks in (
        content_understanding.TASKS,
        information_extraction.TASKS,
        semantic_matching.TASKS,
        user_behaviour.TASKS,
        dialogue.TASKS,
        translation.TASKS,
        online.TASKS,
        general.TASKS,
    )
    for task in tasks
}


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
