"""The targeted set: rows of the weak bucket, stratified by capability (RedOne 2.0, stage 2)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from megatron_redone.common.errors import DataError
from megatron_redone.common.seeding import rng
from megatron_redone.tasks.base import Row
from megatron_redone.tasks.catalogue import get_task


def weak_rows(rows: Sequence[Row], weak_bucket: Sequence[str], num_rows: int, seed: int) -> list[Row]:
    """Up to `num_rows` rows of the weak tasks, each capability and inside it each task with an equal share.

    A share that its tasks cannot fill goes to the others. Inside a task rows are drawn without repeats, those with a
    higher weight sooner (Efraimidis and Spirakis: order by u ** (1 / weight)).

    Raises:
        DataError: no training row of any weak task.
    """
    queues: dict[str, dict[str, list[Row]]] = {}
    for name in sorted(set(weak_bucket)):
        members = [row for row in rows if row.task == name]
        if members:  # the next one stands last
            members.sort(key=lambda row: rng(seed, "target", row.id).random() ** (1.0 / row.weight))
            queues.setdefault(get_task(name).capability, {})[name] = members
    if not queues:
        raise DataError(
            f"no training row of the weak tasks {', '.join(weak_bucket) or '(none)'}; the training file must hold "
            "rows of every diagnosed task"
        )
    chosen: list[Row] = []
    taken: Counter[str] = Counter()
    while queues and len(chosen) < num_rows:
        for capability in list(queues):
            tasks = queues[capability]
            name = min(tasks, key=lambda task: (taken[task], task))
            chosen.append(tasks[name].pop())
            taken[name] += 1
            if not tasks[name]:
                del tasks[name]
            if not tasks:
                del queues[capability]
            if len(chosen) == num_rows:
                break
    return chosen
