"""The queue of training prompts: balanced over tasks, endless, and a function of the seed and a counter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from megatron_redone.common.errors import DataError
from megatron_redone.common.seeding import rng
from megatron_redone.tasks.base import Row
from megatron_redone.tasks.catalogue import check_scorable


class PromptQueue:
    """Draws rows task by task.

    A task is drawn with probability proportional to (its number of rows) ** balance, so that long-tail tasks stay
    visible; inside a task rows come in a shuffled order without repeats until all were drawn.

    Args:
        balance: 1 keeps the natural shares, 0 gives every task the same.
        ranks: id of a row -> place in a curriculum: rows of a task come in this order in each epoch, equal ranks (and
            rows without one, at the end) in a shuffled one.
    """

    def __init__(self, rows: Sequence[Row], balance: float, seed: int, ranks: Mapping[str, int] | None = None) -> None:
        if not rows:
            raise DataError("no rows to draw prompts from; check the stage's data and its task filter")
        check_scorable(rows)
        self.seed, self.ranks = seed, ranks
        self.rows_of: dict[str, list[Row]] = {}
        for row in rows:
            self.rows_of.setdefault(row.task, []).append(row)
        self.tasks = sorted(self.rows_of)
        self.weights = [sum(row.weight for row in self.rows_of[task]) ** balance for task in self.tasks]
        self.drawn = 0
        self.drawn_of = dict.fromkeys(self.tasks, 0)
        self._order: dict[str, tuple[int, list[int]]] = {}  # task -> (epoch, its order)

    def take(self, count: int) -> list[Row]:
        """The next `count` rows."""
        return [self._next() for _ in range(count)]

    def take_of(self, task: str) -> Row:
        """The next row of a task."""
        self.drawn += 1
        return self._next_of(task)

    def _next(self) -> Row:
        task = rng(self.seed, "task", self.drawn).choices(self.tasks, self.weights)[0]
        self.drawn += 1
        return self._next_of(task)

    def _next_of(self, task: str) -> Row:
        rows = self.rows_of[task]
        epoch, place = divmod(self.drawn_of[task], len(rows))
        self.drawn_of[task] += 1
        if task not in self._order or self._order[task][0] != epoch:
            order = list(range(len(rows)))
            rng(self.seed, "order", task, epoch).shuffle(order)
            ranks = self.ranks
            if ranks is not None:
                order.sort(key=lambda index: ranks.get(rows[index].id, len(ranks)))
            self._order[task] = (epoch, order)
        return rows[self._order[task][1][place]]

    def state(self) -> dict[str, Any]:
        """Counters for a checkpoint."""
        return {"drawn": self.drawn, "drawn_of": dict(self.drawn_of)}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Takes the counters of a checkpoint."""
        self.drawn, self.drawn_of = int(state["drawn"]), {t: int(state["drawn_of"][t]) for t in self.tasks}
