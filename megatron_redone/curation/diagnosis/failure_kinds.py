"""How answers fail: over-long, empty, in another language, unreadable, in part right, wrong; with examples."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from megatron_redone.common.seeding import derive_seed
from megatron_redone.data.ngrams import num_cjk
from megatron_redone.reporting.schema import FailureExample, Prediction

KINDS = ("over-long", "empty", "language", "format", "partial", "wrong")
"""In the order in which they are looked for: an answer that was cut is over-long, whatever else it is."""
MIN_LETTERS = 4
"""In texts with fewer letters no language can be told."""
MAX_CHARACTERS = 1200


def failure_kind(prediction: Prediction) -> str | None:
    """The kind of a failed answer; None for full marks.

    over-long: generation ended at its limit. language: the gold answer is written in Han or kana and the answer in
    other letters, or the other way round. format: it could not be read. partial: some of the marks.
    """
    if prediction.value >= 1.0:
        return None
    if prediction.over_long:
        return "over-long"
    if not prediction.output.strip():
        return "empty"
    own, gold = _script(prediction.output), _script(prediction.target)
    if own is not None and gold is not None and own != gold:
        return "language"
    if not prediction.parsed:
        return "format"
    return "partial" if prediction.value > 0 else "wrong"


def _script(text: str) -> str | None:
    """`cjk` or `other`; None for few letters, or a mixture."""
    letters = sum(character.isalpha() for character in text)
    if letters < MIN_LETTERS:
        return None
    share = num_cjk(text) / letters
    return "cjk" if share >= 0.5 else "other" if share <= 0.1 else None


def failure_kinds(predictions: Sequence[Prediction]) -> dict[str, int]:
    """How many answers failed in which way."""
    counts = Counter(kind for prediction in predictions if (kind := failure_kind(prediction)) is not None)
    return {kind: counts[kind] for kind in sorted(counts)}


def failure_examples(predictions: Sequence[Prediction], per_kind: int) -> tuple[FailureExample, ...]:
    """Of each kind those that earned the least; among equals a choice by hash of the id. Long texts are cut."""
    if not per_kind:
        return ()
    by_kind: dict[str, list[Prediction]] = {}
    for prediction in predictions:
        kind = failure_kind(prediction)
        if kind is not None:
            by_kind.setdefault(kind, []).append(prediction)
    found = []
    for kind in (kind for kind in KINDS if kind in by_kind):
        members = sorted(by_kind[kind], key=lambda one: (one.value, derive_seed("example", one.task, one.id)))
        found += [
            FailureExample(
                id=one.id, kind=kind, value=one.value, prompt=_cut(one.prompt), output=_cut(one.output),
                target=_cut(one.target), reason=one.reason,
            )
            for one in members[:per_kind]
        ]  # fmt: skip
    return tuple(found)


def _cut(text: str) -> str:
    more = len(text) - MAX_CHARACTERS
    return text if more <= 0 else f"{text[:MAX_CHARACTERS]} ... ({more} more characters)"
