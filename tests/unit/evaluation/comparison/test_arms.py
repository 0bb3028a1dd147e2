"""Intervals over rows and seeds: as wide as they must be, paired, and of the task's own metric."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from megatron_redone.common.errors import DataError
from megatron_redone.evaluation.comparison.arms import ArmDraws, difference, mean_of, overlap, task_draws
from megatron_redone.evaluation.comparison.reading import Evaluation, Item

TASK = "note_security"
Arms = dict[str, dict[int | None, Evaluation]]


def evaluation(values: Sequence[float], gold: str = "g", task: str = TASK) -> Evaluation:
    items = {f"row{i}": Item(float(value), True, {}, gold) for i, value in enumerate(values)}
    mean = 100 * float(np.mean(values))
    return Evaluation(Path("made"), "stage: test", {task: items}, {task: mean}, {task: "content_understanding"}, {})


def draws(arms: Mapping[str, Sequence[Sequence[float]]], num_resamples: int = 400) -> dict[str, ArmDraws]:
    """Arm -> seeds -> values of rows."""
    by_arm: Arms = {
        name: {seed: evaluation(values) for seed, values in enumerate(of_arm, start=1)} for name, of_arm in arms.items()
    }
    found, num_rows = task_draws(by_arm, "test", TASK, num_resamples, seed=0)
    assert num_rows == len(next(iter(arms.values()))[0])
    return found


def simulated(rng: np.random.Generator, level: float, spread: float, seeds: int, rows: int) -> list[list[float]]:
    """Right and wrong answers of seeds whose levels differ by `spread`."""
    levels = np.clip(level + spread * rng.standard_normal(seeds), 0.02, 0.98)
    return [list((rng.random(rows) < one).astype(float)) for one in levels]


def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    """Four seeds that differ by 5 points, 100 rows: with so few seeds some coverage is lost, and no more than this."""
    rng = np.random.default_rng(1)
    held = 0
    for _ in range(150):
        found = draws({"one": simulated(rng, 0.5, 0.05, 4, 100)}, num_resamples=200)["one"]
        low, high = found.interval()
        held += low <= 50 <= high
    assert held >= 0.86 * 150


def test_equal_arms_give_no_difference_and_a_planted_one_is_found() -> None:
    rng = np.random.default_rng(2)
    low = simulated(rng, 0.3, 0.02, 3, 200)
    found = draws({"low": low, "same": low, "high": simulated(rng, 0.6, 0.02, 3, 200)})
    assert difference(found["same"], found["low"]) == (0.0, (0.0, 0.0)), "paired by row and by seed"
    points, (lowest, highest) = difference(found["high"], found["low"])
    assert 15 < lowest < points < highest < 45
    assert not overlap(found["high"].interval(), found["low"].interval())


def test_seeds_that_differ_widen_the_interval() -> None:
    rng = np.random.default_rng(3)
    rows = [float(value) for value in rng.random(200) < 0.5]
    other = [1.0 - value if i < 40 else value for i, value in enumerate(rows)]
    alike, apart = (
        draws({"alike": [rows] * 3})["alike"],
        draws({"apart": [rows, other, [1.0] * 100 + rows[100:]]})["apart"],
    )
    assert np.diff(apart.interval()) > 1.5 * np.diff(alike.interval())
    assert alike.score == pytest.approx(100 * np.mean(rows))


def test_answers_that_are_all_wrong_are_not_certain() -> None:
    found = draws({"none": [[0.0] * 40] * 2, "few": [[0.0] * 38 + [1.0] * 2] * 2})
    low, high = found["none"].interval()
    assert low == 0.0 and 5 < high < 12
    assert overlap((low, high), found["few"].interval())


def test_a_mean_of_tasks_is_less_sure_of_nothing_and_surer_of_the_rest() -> None:
    rng = np.random.default_rng(4)
    one, two = (draws({"a": simulated(rng, 0.5, 0.0, 2, 100)})["a"] for _ in range(2))
    both = mean_of([one, two])
    assert both.score == pytest.approx((one.score + two.score) / 2)
    low, high = both.interval()
    assert low <= both.score <= high
    assert mean_of([draws({"a": [[0.0] * 10]})["a"]] * 2).interval()[1] > 10


def test_arms_with_other_rows_are_refused() -> None:
    by_arm: Arms = {"a": {1: evaluation([1.0, 0.0])}, "b": {1: evaluation([1.0, 0.0], gold="other")}}
    with pytest.raises(DataError, match=r"rows of note_security differ"):
        task_draws(by_arm, "test", TASK, 100, seed=0)
    by_arm = {"a": {1: evaluation([1.0, 0.0])}, "b": {1: evaluation([1.0, 0.0, 1.0])}}
    with pytest.raises(DataError, match=r"compared on the same rows"):
        task_draws(by_arm, "test", TASK, 100, seed=0)
