"""Scores by a rubric: a model grades each answer by itself, several times, on a stated scale.

The mean of the readable grades becomes a value in 0..1. Samples differ by what the model draws, so a model that is
asked at temperature 0 needs one. Grades that cannot be read are counted; an answer without any readable grade has no
value and is marked as not read. Who grades which kind of answer how well is for `agreement.py` to measure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean

from megatron_redone.scoring.base import Score, mean_value
from megatron_redone.scoring.judge import Answered, CompleteAll, ScoreAll
from megatron_redone.scoring.judge_prompts import POINTWISE, TOP_SCORE, pointwise_messages, read_number

NO_GRADE = "no grade could be read"


@dataclass(frozen=True)
class Rubric:
    """What is graded, and on which scale.

    Attributes:
        instructions: the system turn by language; asks for a last line `Score: N` (`分数：N`) with a whole number.
        lowest, highest: the ends of the scale; they become 0 and 1.
    """

    instructions: Mapping[str, str] = field(default_factory=lambda: POINTWISE)
    lowest: int = 1
    highest: int = TOP_SCORE

    def __post_init__(self) -> None:
        if self.lowest >= self.highest:
            raise ValueError(f"a scale from {self.lowest} to {self.highest} has no width; give lowest < highest")

    def messages(self, item: Answered) -> list[dict[str, str]]:
        """The conversation that asks for a grade of an answer."""
        asked = pointwise_messages(item.prompt, item.answer, item.language)
        return [{"role": "system", "content": self.instructions[item.language]}, *asked[1:]]

    def read(self, reply: str) -> int | None:
        """The grade; None where the reply does not end with one of the scale."""
        grade = read_number(reply)
        return grade if grade is not None and self.lowest <= grade <= self.highest else None

    def share(self, grade: float) -> float:
        """The grade's place on the scale, 0..1."""
        return (grade - self.lowest) / (self.highest - self.lowest)


@dataclass(frozen=True)
class RubricScorer:
    """Grades answers.

    Attributes:
        samples: the model, once for each sample: `one_by_one(server.complete)` for one, and for more
            `one_by_one(partial(server.complete, sample=number))` for each number from 0.
    """

    samples: Sequence[CompleteAll]
    rubric: Rubric = field(default_factory=Rubric)

    def score(self, answered: Sequence[Answered]) -> list[Score]:
        """One score an answer, in order. Statistics: `grade` (mean, on the scale), `samples`, `unreadable` (counts)."""
        asked = [self.rubric.messages(item) for item in answered]
        replies = [complete_all(asked) for complete_all in self.samples]
        return [self._score_one([self.rubric.read(reply) for reply in own]) for own in zip(*replies, strict=True)]

    def aggregate(self, scores: Sequence[Score]) -> float:
        """The mean of the values of the answers that have a grade; 0 for none."""
        return mean_value([score for score in scores if score.parsed])

    def unreadable_share(self, scores: Sequence[Score]) -> float:
        """Replies without a readable grade over all replies."""
        asked = sum(score.statistics["samples"] for score in scores)
        return sum(score.statistics["unreadable"] for score in scores) / asked if asked else 0.0

    def _score_one(self, grades: Sequence[int | None]) -> Score:
        readable = [grade for grade in grades if grade is not None]
        statistics = {"samples": float(len(grades)), "unreadable": float(len(grades) - len(readable))}
        if not readable:
            return Score(0.0, parsed=False, statistics=statistics, reason=NO_GRADE)
        grade = fmean(readable)
        return Score(self.rubric.share(grade), parsed=True, statistics=statistics | {"grade": grade})


def rubric_scores(scorer: RubricScorer) -> ScoreAll:
    """What a `PointwiseJudge` compares by: the value of each answer, None where no grade could be read."""

    def score_all(answered: Sequence[Answered]) -> list[float | None]:
        return [score.value if score.parsed else None for score in scorer.score(answered)]

    return score_all
