"""Detection at a threshold: counted by hand, chosen on other notes, and what users still see."""

from __future__ import annotations

import pytest
from hypothesis import given, settings, strategies as st

from megatron_redone.common.errors import DataError, InputError
from megatron_redone.common.seeding import numpy_rng
from megatron_redone.evaluation.online.detection import (
    JudgedNote,
    ThresholdRule,
    choose_threshold,
    exposure_rate,
    measure_detection,
    split_notes,
    threshold_curve,
)


def notes_of(labels: str, scores: list[float], exposures: list[float] | None = None) -> list[JudgedNote]:
    shown = exposures or [1.0] * len(scores)
    return [JudgedNote(str(n), labels[n] == "x", scores[n], shown[n]) for n in range(len(scores))]


def drawn(count: int, seed: object, gap: float = 0.3) -> list[JudgedNote]:
    draw = numpy_rng("notes", seed)
    labels = draw.random(count) < 0.3
    scores = (draw.random(count) * (1 - gap) + gap * labels).round(3)
    return [JudgedNote(str(n), bool(labels[n]), float(scores[n]), float(draw.integers(0, 9))) for n in range(count)]


def test_the_measures_are_those_counted_by_hand() -> None:
    notes = notes_of("xxx......", [0.9, 0.8, 0.2, 0.7, 0.3, 0.2, 0.1, 0.1, 0.0], [10, 5, 5, 20, 20, 10, 10, 10, 10])
    result = measure_detection(notes, 0.5, scorer="s", rule=ThresholdRule(), choice_notes=7, num_resamples=200)
    values = {name: measured.value for name, measured in result.measures.items()}
    assert values["precision"] == pytest.approx(2 / 3)
    assert values["recall"] == pytest.approx(2 / 3)
    assert values["f1"] == pytest.approx(2 / 3)
    assert values["exposure_rate_before"] == pytest.approx(20 / 100)
    assert values["exposure_rate_after"] == pytest.approx(5 / 65)  # 5 harmful and 60 harmless exposures are left
    assert values["exposure_rate_change"] == pytest.approx(5 / 65 / 0.2 - 1)
    assert values["harmless_exposures_withheld"] == pytest.approx(20 / 80)
    assert values["exposure_rate_after"] == pytest.approx(exposure_rate(notes, 0.5))
    assert (result.notes, result.harmful, result.choice_notes) == (9, 3, 7)
    for measured in result.measures.values():
        assert measured.interval[0] <= measured.value <= measured.interval[1]


@settings(max_examples=30)
@given(st.integers(0, 10**6))
def test_the_chosen_threshold_is_the_best_of_all(seed: int) -> None:
    notes = drawn(40, seed)
    if len({note.harmful for note in notes}) < 2:
        return

    def at(threshold: float) -> tuple[float, float, float]:
        withheld = [note for note in notes if note.score >= threshold]
        right = sum(note.harmful for note in withheld)
        precision, recall = right / len(withheld), right / sum(note.harmful for note in notes)
        return precision, recall, 2 * precision * recall / (precision + recall) if right else 0.0

    scores = sorted({note.score for note in notes})
    assert at(choose_threshold(notes, ThresholdRule()))[2] == pytest.approx(max(at(score)[2] for score in scores))
    recall_kept = choose_threshold(notes, ThresholdRule("recall", 0.8))
    reachable = [at(score)[0] for score in scores if at(score)[1] >= 0.8]
    assert at(recall_kept)[1] >= 0.8 and at(recall_kept)[0] == pytest.approx(max(reachable))
    curve = threshold_curve(notes)
    for threshold, precision, recall in zip(curve.thresholds, curve.precision, curve.recall, strict=True):
        assert at(threshold)[:2] == pytest.approx((precision, recall))


def test_a_precision_that_cannot_be_reached_is_refused() -> None:
    notes = notes_of(".x.x", [0.9, 0.6, 0.5, 0.2])
    with pytest.raises(InputError, match=r"no threshold has a precision of 0\.9; the largest is 0\.500"):
        choose_threshold(notes, ThresholdRule("precision", 0.9))


def test_notes_for_the_choice_are_not_reported() -> None:
    notes = drawn(400, "split")
    choice, report = split_notes(notes, 0.5, 0)
    assert {note.id for note in choice} | {note.id for note in report} == {note.id for note in notes}
    assert not {note.id for note in choice} & {note.id for note in report}
    assert 150 < len(choice) < 250
    assert split_notes(list(reversed(notes)), 0.5, 0)[0] == list(reversed(choice))  # the order plays no part
    with pytest.raises(DataError, match=r"are not of both classes; give more notes"):
        split_notes([JudgedNote(str(n), False, 0.1) for n in range(50)], 0.5, 0)


def test_a_threshold_fitted_to_chance_does_not_flatter_the_report() -> None:
    """Scores without meaning: average precision is the share of harmful notes, and no exposure rate falls."""
    notes = drawn(3000, "chance", gap=0.0)
    choice, report = split_notes(notes, 0.5, 0)
    threshold = choose_threshold(choice, ThresholdRule())
    result = measure_detection(report, threshold, scorer="s", rule=ThresholdRule(), choice_notes=len(choice))
    share = result.harmful / result.notes
    low, high = result.average_precision.interval
    assert low - 0.02 <= share <= high + 0.02
    assert result.measures["exposure_rate_change"].interval[1] > -0.2


def test_a_perfect_score_leaves_no_harmful_exposure() -> None:
    notes = notes_of("xx....", [0.9, 0.8, 0.3, 0.2, 0.2, 0.1])
    threshold = choose_threshold(notes, ThresholdRule())
    result = measure_detection(notes, threshold, scorer="s", rule=ThresholdRule(), choice_notes=0, num_resamples=50)
    assert result.measures["f1"].value == result.average_precision.value == 1.0
    assert result.measures["exposure_rate_after"].value == 0.0
    assert result.measures["exposure_rate_change"].value == -1.0
    assert result.curve[0].exposure_rate <= exposure_rate(notes, 2.0)
