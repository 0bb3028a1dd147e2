"""Source 4: the better of a model's own answers over a worse one, both drawn and judged here.

RedOne (section 3.3.1) takes pairs of a model's answers that judge models label. Here a row's answers are drawn, each
gets a composite quality, and the best stands over the worst:

    quality = (a * task's score + b * judge's score + c * mean token probability) / (a + b + c)

The paper gives no formula; this one is that of the soft labels with a judge beside it. Each pair tells the qualities of
all the answers it was chosen from.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

from megatron_redone.curation.pairs.config import JudgeConfig, OwnAnswersConfig
from megatron_redone.curation.pairs.model_errors import Output
from megatron_redone.curation.pairs.pair import Pair
from megatron_redone.data.conversation import THINK_CLOSE
from megatron_redone.scoring.judge import Answered
from megatron_redone.scoring.judge_prompts import TOP_SCORE, ChatMessage
from megatron_redone.tasks.base import Row
from megatron_redone.tasks.catalogue import get_task


@dataclass(frozen=True)
class Candidate:
    """One of a row's different answers.

    Attributes:
        score: of the row's task, 0..1; `parsed` where the task could read the answer.
        judge: 0..1, None without a judge.
        count: how often it was drawn.
    """

    text: str
    score: float
    parsed: bool
    judge: float | None
    confidence: float
    quality: float
    count: int

    def to_json(self) -> dict[str, Any]:
        """All but the text."""
        known = {"score": self.score, "judge": self.judge, "confidence": self.confidence, "quality": self.quality}
        return {name: None if value is None else round(value, 6) for name, value in known.items()} | {
            "count": self.count
        }


def to_judge(row: Row, outputs: Sequence[Output], language: str) -> list[Answered]:
    """The row's different answers as a judge scores them, by an id of row and place."""
    prompt = cast(Sequence[ChatMessage], get_task(row.task).render(row))
    asked = row.language if language == "auto" else language
    return [Answered(f"{row.id}/{place}", prompt, text, asked) for place, text in enumerate(_different(outputs))]


def as_share(config: JudgeConfig, score: float | None) -> float | None:
    """A judge's score as 0..1: points of 1 to 10, or nats a token."""
    if score is None:
        return None
    return math.exp(min(score, 0.0)) if config.kind == "likelihood" else (score - 1) / (TOP_SCORE - 1)


def candidates_of(
    config: OwnAnswersConfig, row: Row, outputs: Sequence[Output], judged: Sequence[float | None] | None = None
) -> list[Candidate]:
    """The row's different finished answers, the best first; among equals the one drawn more often.

    Args:
        judged: a score in 0..1 for each of `to_judge`; an answer without one is left out.
    """
    texts = _different(outputs)
    scores = get_task(row.task).score(texts, [row] * len(texts))
    found = []
    for place, (text, score) in enumerate(zip(texts, scores, strict=True)):
        judge = judged[place] if judged is not None else None
        if config.judge_weight and judge is None:
            continue
        same = [output for output in outputs if output.finished and output.text == text]
        confidence = math.exp(max(output.logprob or -math.inf for output in same))
        parts = (
            (config.score_weight, score.value),
            (config.judge_weight, judge or 0.0),
            (config.confidence_weight, confidence),
        )
        quality = sum(weight * value for weight, value in parts) / sum(weight for weight, _ in parts)
        found.append(Candidate(text, score.value, score.parsed, judge, confidence, quality, len(same)))
    return sorted(found, key=lambda one: (-one.quality, -one.count, one.text))


def own_pairs(
    config: OwnAnswersConfig, row: Row, candidates: Sequence[Candidate], made_by: Mapping[str, Any]
) -> list[Pair]:
    """The best candidate over the worst ones that are `min_margin` below it; none where it is below the floor.

    The prompt asks for a thought only where both answers have one, so that the two differ in more than form.

    Args:
        made_by: what answered and judged, for the provenance; JSON values.
    """
    readable = [one for one in candidates if one.parsed]
    if not readable or readable[0].quality < config.floor:
        return []
    best = readable[0]
    worse = [
        one
        for one in reversed(candidates)
        if best.quality - one.quality >= config.min_margin and (one.parsed or config.format_failures)
    ]
    same_form = [one for one in worse if (THINK_CLOSE in one.text) == (THINK_CLOSE in best.text)]
    asked = row if THINK_CLOSE in best.text else replace(row, rationale=None)
    return [
        Pair(
            messages=get_task(row.task).render(asked),
            chosen=best.text,
            rejected=one.text,
            how="own_answers",
            source=row.source,
            row=row.id,
            task=row.task,
            language=row.language,
            chosen_reward=round(best.quality, 6),
            rejected_reward=round(one.quality, 6),
            detail={
                "margin": round(best.quality - one.quality, 6),
                "chosen": best.to_json(),
                "rejected": one.to_json(),
                "qualities": [round(candidate.quality, 6) for candidate in candidates],
                "samples": sum(candidate.count for candidate in candidates),
                "weights": {
                    "score": config.score_weight,
                    "judge": config.judge_weight,
                    "confidence": config.confidence_weight,
                },
                **made_by,
            },
            origin=row,
        )
        for one in same_form[: config.pairs_per_row]
    ]


def _different(outputs: Sequence[Output]) -> list[str]:
    """Finished answers, each once, in the order drawn."""
    return list(dict.fromkeys(output.text for output in outputs if output.finished and output.text.strip()))
