"""Harmful-content detection as it is used online: a score, a threshold, and what users still get to see.

RedOne (section 4.6, table 6) reports the fall of the exposure rate of harmful notes, against the model that was there
before. Exposure rate here: of all exposures that are left after notes at or above the threshold are withheld, the
share that shows a harmful note. It is computed on logged exposures, so it leaves out that other notes would fill the
freed places.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from megatron_redone.common.errors import DataError, InputError
from megatron_redone.common.seeding import derive_seed
from megatron_redone.reporting.online_schema import DetectionAt, DetectionResult, Measured
from megatron_redone.scoring.statistics import bootstrap_sums

Rule = Literal["f1", "precision", "recall"]
Numbers = npt.NDArray[np.float64]
CURVE_POINTS = 200


@dataclass(frozen=True)
class JudgedNote:
    """A note with its label and the score that a model gave it.

    Attributes:
        score: 0..1, larger where the model finds it more harmful.
        exposures: how often it was shown.
    """

    id: str
    harmful: bool
    score: float
    exposures: float = 1.0


@dataclass(frozen=True)
class ThresholdRule:
    """Which threshold is chosen: the one with the largest F1, or the one with the largest recall (precision) of those
    that reach a precision (recall) of `least`."""

    name: Rule = "f1"
    least: float = 0.0


def split_notes(
    notes: Sequence[JudgedNote], choice_share: float, seed: int
) -> tuple[list[JudgedNote], list[JudgedNote]]:
    """(notes on which the threshold is chosen, notes that are reported), by the hash of seed and id.

    Raises:
        DataError: one of the two is not of both classes.
    """
    parts: tuple[list[JudgedNote], list[JudgedNote]] = ([], [])
    for note in notes:
        drawn = derive_seed(seed, "threshold", note.id) / 2**63
        parts[0 if drawn < choice_share else 1].append(note)
    for part, use in zip(parts, ("choosing the threshold", "the report"), strict=True):
        if len({note.harmful for note in part}) < 2:
            raise DataError(f"the {len(part)} notes for {use} are not of both classes; give more notes")
    return parts


def choose_threshold(notes: Sequence[JudgedNote], rule: ThresholdRule) -> float:
    """The threshold that the rule asks for; notes with a score of at least it are withheld.

    Raises:
        InputError: no threshold reaches the least precision or recall.
    """
    curve = threshold_curve(notes)
    if rule.name == "f1":
        place = int(np.argmax(curve.f1))
    else:
        kept, other = (curve.precision, curve.recall) if rule.name == "precision" else (curve.recall, curve.precision)
        reaches = np.flatnonzero(kept >= rule.least)
        if not len(reaches):
            raise InputError(
                f"no threshold has a {rule.name} of {rule.least}; the largest is {kept.max():.3f}, ask for less"
            )
        place = int(reaches[np.argmax(other[reaches])])
    return float(curve.thresholds[place])


@dataclass(frozen=True)
class ThresholdCurve:
    """Precision, recall and F1 at every score that occurs, [n], thresholds falling."""

    thresholds: Numbers
    precision: Numbers
    recall: Numbers
    f1: Numbers


def threshold_curve(notes: Sequence[JudgedNote]) -> ThresholdCurve:
    """The curve; precision and recall by scikit-learn, without its last point, at which nothing is withheld."""
    from sklearn.metrics import precision_recall_curve

    precision, recall, thresholds = precision_recall_curve(
        [note.harmful for note in notes], [note.score for note in notes]
    )
    precision, recall = precision[:-1][::-1], recall[:-1][::-1]
    total = precision + recall
    f1 = np.divide(2 * precision * recall, total, out=np.zeros_like(total), where=total > 0)
    return ThresholdCurve(thresholds[::-1].astype(np.float64), precision, recall, f1)


def measure_detection(
    notes: Sequence[JudgedNote],
    threshold: float,
    *,
    scorer: str,
    rule: ThresholdRule,
    choice_notes: int,
    seed: int = 0,
    num_resamples: int = 2000,
) -> DetectionResult:
    """Everything about a threshold that was chosen on other notes.

    Args:
        notes: of both classes.
        scorer: what gave the scores.
        choice_notes: how many notes the threshold was chosen on.
    """
    from sklearn.metrics import average_precision_score

    columns = _columns(notes, threshold)
    measured = _measures(columns.sum(axis=0, keepdims=True))
    draws = _measures(bootstrap_sums(columns, derive_seed(seed, "detection"), num_resamples))
    harmful, scores = np.array([note.harmful for note in notes]), np.array([note.score for note in notes])
    return DetectionResult(
        scorer=scorer,
        notes=len(notes),
        harmful=int(harmful.sum()),
        choice_notes=choice_notes,
        rule=rule.name if rule.name == "f1" else f"{rule.name} >= {rule.least}",
        threshold=threshold,
        measures={name: _measured(float(value[0]), draws[name]) for name, value in measured.items()},
        average_precision=_measured(
            float(average_precision_score(harmful, scores)), _average_precisions(harmful, scores, seed)
        ),
        curve=_curve(notes),
    )


def exposure_rate(notes: Sequence[JudgedNote], threshold: float) -> float:
    """Share of the exposures of notes below the threshold that show a harmful one; 0 where none is left."""
    shown = [note for note in notes if note.score < threshold]
    total = sum(note.exposures for note in shown)
    return sum(note.exposures for note in shown if note.harmful) / total if total else 0.0


def _columns(notes: Sequence[JudgedNote], threshold: float) -> Numbers:
    """[notes, 7] true and false positives, false negatives, then exposures: harmful and all, and both that are left."""
    rows = []
    for note in notes:
        withheld = note.score >= threshold
        left = 0.0 if withheld else note.exposures
        rows.append(
            (
                float(withheld and note.harmful),
                float(withheld and not note.harmful),
                float(note.harmful and not withheld),
                note.exposures * note.harmful,
                note.exposures,
                left * note.harmful,
                left,
            )
        )
    return np.array(rows)


def _measures(sums: Numbers) -> dict[str, Numbers]:
    right, wrong, missed, harmful, shown, harmful_left, left = sums.T
    before, after = _ratio(harmful, shown), _ratio(harmful_left, left)
    return {
        "precision": _ratio(right, right + wrong),
        "recall": _ratio(right, right + missed),
        "f1": _ratio(2 * right, 2 * right + wrong + missed),
        "exposure_rate_before": before,
        "exposure_rate_after": after,
        "exposure_rate_change": _ratio(after - before, before),
        "harmless_exposures_withheld": _ratio(shown - harmful - left + harmful_left, shown - harmful),
    }


def _ratio(above: Numbers, below: Numbers) -> Numbers:
    return np.divide(above, below, out=np.zeros_like(below), where=below > 0)


def _average_precisions(harmful: npt.NDArray[np.bool_], scores: Numbers, seed: int, count: int = 300) -> Numbers:
    from sklearn.metrics import average_precision_score

    from megatron_redone.common.seeding import numpy_rng

    generator = numpy_rng(seed, "average precision")
    draws = generator.integers(0, len(scores), size=(count, len(scores)))
    return np.array(
        [average_precision_score(harmful[draw], scores[draw]) if harmful[draw].any() else 0.0 for draw in draws]
    )


def _measured(value: float, draws: Numbers) -> Measured:
    low, high = np.quantile(draws, [0.025, 0.975])
    return Measured(value=value, interval=(min(float(low), value), max(float(high), value)))


def _curve(notes: Sequence[JudgedNote]) -> tuple[DetectionAt, ...]:
    """At most `CURVE_POINTS` points, evenly over the thresholds that occur."""
    curve = threshold_curve(notes)
    places = np.unique(np.linspace(0, len(curve.thresholds) - 1, CURVE_POINTS).round().astype(int))
    return tuple(
        DetectionAt(
            threshold=float(curve.thresholds[place]),
            precision=float(curve.precision[place]),
            recall=float(curve.recall[place]),
            f1=float(curve.f1[place]),
            exposure_rate=exposure_rate(notes, float(curve.thresholds[place])),
        )
        for place in places
    )
