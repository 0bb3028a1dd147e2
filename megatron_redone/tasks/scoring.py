"""Scores of answers to rows of any tasks: rewards and evaluation alike. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

from megatron_redone.scoring.base import Score
from megatron_redone.scoring.config import ScoringConfig
from megatron_redone.scoring.pool import DeadlinePool
from megatron_redone.tasks.base import Row
from megatron_redone.tasks.catalogue import get_task

Answer = tuple[str, Row]


class Scoring:
    """Scores answers by the tasks of their rows, in this process or over several with a deadline for each.

    Programs go to the sandbox together, which has deadlines and processes of its own. Close it, or use `with`.

    Args:
        instead: score of an answer that a process could not score, from the answer and the reason; `not_scored`.
    """

    def __init__(
        self, config: ScoringConfig | None = None, instead: Callable[[Answer, str], Score] | None = None
    ) -> None:
        self.config = config or ScoringConfig()
        self._pool = DeadlinePool[Answer, Score](
            score_answer, instead or not_scored, self.config.num_workers, self.config.deadline_seconds
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the processes."""
        self._pool.close()

    @property
    def counts(self) -> dict[str, int]:
        """Answers that got the default because they were late, their process died, or their scorer failed."""
        return dict(self._pool.counts)

    def score(self, texts: Sequence[str], rows: Sequence[Row]) -> list[Score]:
        """One score an answer, in order.

        Raises:
            SandboxUnavailableError: a program is to be scored, and nothing here may run it.
        """
        programs = [place for place, row in enumerate(rows) if get_task(row.task).reward_kind == "sandbox"]
        others = [place for place, row in enumerate(rows) if get_task(row.task).reward_kind != "sandbox"]
        scores: dict[int, Score] = {}
        for name in dict.fromkeys(rows[place].task for place in programs):
            members = [place for place in programs if rows[place].task == name]
            found = get_task(name).score([texts[place] for place in members], [rows[place] for place in members])
            scores |= dict(zip(members, found, strict=True))
        scores |= dict(zip(others, self._pool.map([(texts[place], rows[place]) for place in others]), strict=True))
        return [scores[place] for place in range(len(rows))]


def score_answer(answer: Answer) -> Score:
    """The score of one answer by its row's task."""
    text, row = answer
    return get_task(row.task).score([text], [row])[0]


def not_scored(answer: Answer, reason: str) -> Score:
    """What an answer gets that could not be scored: nothing, as one that could not be read."""
    return Score(0.0, parsed=False, reason=f"not scored: {reason}")
