"""Judges: which of two answers to a conversation is better.

The seam to a model is `complete(messages) -> text`: a server's (`completion_server.py`), a local model's, or a scripted
one. A pairwise judge sees every pair in both orders, and what the two readings do not agree on is a tie (Zheng et al.
2023 call it the conservative approach). A pointwise judge scores each answer by itself, so order plays no part.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal, Protocol

from megatron_redone.scoring.judge_prompts import (
    ChatMessage,
    Shown,
    pairwise_messages,
    pointwise_messages,
    read_score,
    read_verdict,
)

Label = Literal["a", "b", "tie"]
LABELS: tuple[Label, ...] = ("a", "b", "tie")

Complete = Callable[[Sequence[ChatMessage]], str]
"""A model's reply to one conversation."""
CompleteAll = Callable[[Sequence[Sequence[ChatMessage]]], list[str]]
"""The replies to many conversations, in order; what a judge calls, so that engines may batch."""


@dataclass(frozen=True)
class Comparison:
    """Two answers to one conversation.

    Attributes:
        id: unique among the comparisons of a file.
        prompt: messages up to and including the user's last turn.
        answer_a, answer_b: the answers, not equal.
        language: `en` or `zh`: in which the judge is asked.
    """

    id: str
    prompt: Sequence[ChatMessage]
    answer_a: str
    answer_b: str
    language: str


@dataclass(frozen=True)
class Verdict:
    """What a judge says about a comparison.

    Attributes:
        winner: the label; a tie also where the orders disagree or a reply cannot be read.
        readings: pairwise judges: the label with a shown first and with b shown first, each None where unreadable.
        scores: pointwise judges: of a and b; None where unreadable.
    """

    winner: Label
    readings: tuple[Label | None, Label | None] | None = None
    scores: tuple[float | None, float | None] | None = None

    @property
    def unreadable(self) -> bool:
        """Whether one of the replies could not be read, so that the tie is none of the judge's making."""
        return None in (self.readings or ()) or None in (self.scores or ())


class Judge(Protocol):
    """Labels comparisons. Where a model is spread over ranks, all of them call it alike."""

    def compare(self, comparisons: Sequence[Comparison]) -> list[Verdict]:
        """One verdict a comparison, in order."""
        ...


def one_by_one(complete: Complete, threads: int = 1) -> CompleteAll:
    """Lifts a model's reply to one conversation to many, so many at once."""

    def complete_all(conversations: Sequence[Sequence[ChatMessage]]) -> list[str]:
        with ThreadPoolExecutor(threads) as pool:
            return list(pool.map(complete, conversations))

    return complete_all


@dataclass(frozen=True)
class PairwiseJudge:
    """Asks a model for the better of two answers, in both orders."""

    complete_all: CompleteAll

    def compare(self, comparisons: Sequence[Comparison]) -> list[Verdict]:
        """One verdict a comparison; both orders must agree."""
        asked = [
            pairwise_messages(c.prompt, *answers, c.language)
            for c in comparisons
            for answers in ((c.answer_a, c.answer_b), (c.answer_b, c.answer_a))
        ]
        shown = [read_verdict(reply) for reply in self.complete_all(asked)]
        return [
            agreed(_label(ab, "a", "b"), _label(ba, "b", "a")) for ab, ba in zip(shown[::2], shown[1::2], strict=True)
        ]


def agreed(forward: Label | None, backward: Label | None) -> Verdict:
    """The label of two readings: theirs if they are the same, else a tie."""
    same = forward is not None and forward == backward
    return Verdict(forward if same and forward is not None else "tie", readings=(forward, backward))


def _label(shown: Shown | None, first: Label, second: Label) -> Label | None:
    return None if shown is None else {"first": first, "second": second, "tie": "tie"}[shown]


@dataclass(frozen=True)
class Answered:
    """A conversation with one answer, to be scored by itself."""

    id: str
    prompt: Sequence[ChatMessage]
    answer: str
    language: str


ScoreAll = Callable[[Sequence[Answered]], list[float | None]]
"""A score for each answer, in order; None where there is none."""


@dataclass(frozen=True)
class PointwiseJudge:
    """Scores each answer by itself; the higher score wins if it is higher by more than `min_margin`."""

    score_all: ScoreAll
    min_margin: float = 0.0

    def compare(self, comparisons: Sequence[Comparison]) -> list[Verdict]:
        """One verdict a comparison."""
        answered = [
            Answered(f"{c.id}/{name}", c.prompt, answer, c.language)
            for c in comparisons
            for name, answer in (("a", c.answer_a), ("b", c.answer_b))
        ]
        scores = self.score_all(answered)
        return [self._verdict(a, b) for a, b in zip(scores[::2], scores[1::2], strict=True)]

    def _verdict(self, a: float | None, b: float | None) -> Verdict:
        winner: Label = "tie"
        if a is not None and b is not None and abs(a - b) > self.min_margin:
            winner = "a" if a > b else "b"
        return Verdict(winner, scores=(a, b))


def prompted_scores(complete_all: CompleteAll) -> ScoreAll:
    """Scores in 1..10 that a model is asked for."""

    def score_all(answered: Sequence[Answered]) -> list[float | None]:
        asked = [pointwise_messages(item.prompt, item.answer, item.language) for item in answered]
        return [read_score(reply) for reply in complete_all(asked)]

    return score_all


def length_scores(answered: Sequence[Answered]) -> list[float | None]:
    """The characters of each answer: what a judge is worth that likes long answers and reads none."""
    return [float(len(item.answer)) for item in answered]
