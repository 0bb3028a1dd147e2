"""Scores of answers as rewards, and what is added to them.

Answers are scored by rank 0 for all ranks: a deadline that passes on one rank and not on another would let their
batches part. An answer that could not be scored gets a stated default and is counted by the reason:

| count | what happened |
|---|---|
| `late` | no score within `deadline_seconds`: its process was killed and replaced |
| `died` | its process ended (killed, out of memory) |
| `failed` | the scorer raised an error, or gave what is no number in 0..1 (NaN, a text) |
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self

from megatron_redone.common.errors import RedoneError
from megatron_redone.common.logging import get_logger
from megatron_redone.parallel.context import ParallelContext
from megatron_redone.rl.config import OverlongConfig, RewardConfig
from megatron_redone.scoring.base import Score
from megatron_redone.tasks.base import Row
from megatron_redone.tasks.catalogue import get_task
from megatron_redone.tasks.scoring import Answer, Scoring

LOG = get_logger("rewards")

REASONS = ("late", "died", "failed")


class Rewards:
    """Scores answers in the loop, in this process or over several with a deadline for each. Close it, or use `with`.

    Attributes:
        counts: answers that were `scored`, and those of them that got the default, by reason; equal on all ranks.
    """

    def __init__(self, config: RewardConfig | None = None, context: ParallelContext | None = None) -> None:
        self.config, self.context = config or RewardConfig(), context
        self.counts: Counter[str] = Counter(dict.fromkeys(("scored", *REASONS), 0))
        self._scoring = Scoring(self.config, instead=self._instead)
        self._pool_counts = self._scoring.counts
        self._problems: list[tuple[str, Row, str]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._scoring.close()

    def score(self, texts: Sequence[str], rows: Sequence[Row], *, alone: bool = False) -> list[Score]:
        """One score an answer, in order. A collective, unless one rank is to do it `alone`.

        Raises:
            RedoneError: a scorer is broken and `bad_scores` is "stop"; or more than `max_unscored_share` of the
                answers got the default. Task, row and reason are named.
        """
        if alone or self.context is None:
            scores, counts = self._score_here(texts, rows)
        else:
            scores, counts = self.context.on_main(lambda: self._score_here(texts, rows))
        self.counts.update(counts)
        return scores

    def _score_here(self, texts: Sequence[str], rows: Sequence[Row]) -> tuple[list[Score], Counter[str]]:
        self._problems = []
        programs = {name for name in {row.task for row in rows} if get_task(name).reward_kind == "sandbox"}
        here = [place for place, row in enumerate(rows) if not self.config.num_workers or row.task in programs]
        found = dict(zip(here, self._in_process([texts[p] for p in here], [rows[p] for p in here]), strict=True))
        others = [place for place in range(len(rows)) if place not in found]
        scores = self._scoring.score([texts[place] for place in others], [rows[place] for place in others])
        found |= dict(zip(others, scores, strict=True))
        self._check_problems(len(rows))
        counts = Counter(kind for kind, _, _ in self._problems)
        return [found[place] for place in range(len(rows))], counts + Counter(scored=len(rows))

    def _in_process(self, texts: Sequence[str], rows: Sequence[Row]) -> list[Score]:
        """Task by task (the sandbox runs the programs of a task together); one by one where one of them fails."""
        found: dict[int, Score] = {}
        for name in dict.fromkeys(row.task for row in rows):
            places = [place for place, row in enumerate(rows) if row.task == name]
            try:
                scores = _checked(name, [texts[place] for place in places], [rows[place] for place in places])
            except (TypeError, ValueError):
                scores = [self._one(texts[place], rows[place]) for place in places]
            found |= dict(zip(places, scores, strict=True))
        return [found[place] for place in range(len(rows))]

    def _one(self, text: str, row: Row) -> Score:
        try:
            return _checked(row.task, [text], [row])[0]
        except (TypeError, ValueError) as error:
            return self._not_scored("failed", row, f"{type(error).__name__}: {error}")

    def _instead(self, answer: Answer, reason: str) -> Score:
        """What the pool of processes gives for an answer without a score; it has just counted why."""
        before, self._pool_counts = self._pool_counts, self._scoring.counts
        kind = next(kind for kind in REASONS if self._pool_counts[kind] > before[kind])
        return self._not_scored(kind, answer[1], reason)

    def _not_scored(self, kind: str, row: Row, reason: str) -> Score:
        self._problems.append((kind, row, reason))
        return Score(self.config.default_score, parsed=False, reason=f"not scored: {reason}")

    def _check_problems(self, num_answers: int) -> None:
        failed = [(row, reason) for kind, row, reason in self._problems if kind == "failed"]
        if failed and self.config.bad_scores == "stop":
            row, reason = failed[0]
            raise RedoneError(
                f"task {row.task!r}, row {row.id!r}: no reward ({reason}); a scorer gives a number in 0..1 for every "
                "answer: mend the scorer, leave the task out, or count such answers with rewards.bad_scores=count"
            )
        if len(self._problems) > self.config.max_unscored_share * num_answers:
            kind, row, reason = self._problems[0]
            raise RedoneError(
                f"{len(self._problems)} of {num_answers} answers could not be scored, more than "
                f"rewards.max_unscored_share={self.config.max_unscored_share:g}; the first: task {row.task!r}, row "
                f"{row.id!r} ({kind}: {reason}). Raise rewards.deadline_seconds, mend the scorer, or raise the bound"
            )
        for kind, row, reason in self._problems[:3]:
            LOG.warning("task %s, row %s: not scored (%s: %s)", row.task, row.id, kind, reason)

    def state(self) -> dict[str, int]:
        """For a checkpoint."""
        return dict(self.counts)

    def restore(self, state: Mapping[str, int]) -> None:
        """From a checkpoint."""
        self.counts = Counter({**dict.fromkeys(("scored", *REASONS), 0), **state})


def _checked(task: str, texts: Sequence[str], rows: Sequence[Row]) -> list[Score]:
    """The scores of answers by a task. Raises ValueError or TypeError where one is no number in 0..1."""
    scores = get_task(task).score(texts, rows)
    for score in scores:
        if not (math.isfinite(score.value) and 0.0 <= score.value <= 1.0):
            raise ValueError(f"a score of {score.value!r}")
    return scores


def overlong_penalty(num_tokens: int, max_tokens: int, config: OverlongConfig) -> float:
    """Soft overlong punishment (DAPO, equation 13): 0 up to max - buffer, then linearly down to -factor at max."""
    if config.buffer_tokens == 0:
        return 0.0
    beyond = num_tokens - (max_tokens - config.buffer_tokens)
    return min(0.0, -beyond / config.buffer_tokens * config.factor)
