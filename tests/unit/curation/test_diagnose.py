from __future__ import annotations

from hypothesis import assume, given, strategies as st

from megatron_redone.curation.config import DiagnosisConfig
from megatron_redone.curation.diagnose import diagnose, failure_kinds
from megatron_redone.reporting.schema import Prediction, TaskScore


def score(task: str, low: float, middle: float, high: float) -> TaskScore:
    return TaskScore(
        task=task, capability="any", reward_kind="exact_match", num_rows=9, score=middle, interval=(low, high),
        parse_rate=1.0,
    )  # fmt: skip


def prediction(task: str, output: str, value: float, parsed: bool) -> Prediction:
    return Prediction(
        id=f"{task}{output}{value}", task=task, language="en", prompt="", output=output, target="", value=value,
        parsed=parsed,
    )  # fmt: skip


intervals = st.lists(st.floats(0, 100), min_size=3, max_size=3).map(sorted)
scores = st.lists(intervals, min_size=1, max_size=8).map(lambda s: [score(f"t{i}", *v) for i, v in enumerate(s)])


@given(scores, st.floats(0, 100), st.integers(1, 4), st.none() | st.integers(1, 6))
def test_the_bucket_follows_its_rule(found: list[TaskScore], threshold: float, least: int, most: int | None) -> None:
    assume(most is None or most >= least)
    result = diagnose(DiagnosisConfig(threshold=threshold, min_tasks=least, max_tasks=most), found, [], "m")
    weak = set(result.weak_bucket)
    below = {s.task for s in found if s.interval[1] < threshold}
    assert len(weak) == min(max(len(below), least), len(found), most or len(found))
    assert weak <= below or below <= weak  # nobody joins before all that are below
    level = {s.task: s.score for s in found}
    for group in (below, set(level) - below):
        inside, outside = group & weak, group - weak
        assert not inside or not outside or max(level[t] for t in inside) <= min(level[t] for t in outside)
    assert {task.task for task in result.tasks if task.weak} == weak
    assert len(result.tasks) == len(found) and all(task.reason for task in result.tasks)


@given(scores)
def test_the_order_of_the_scores_does_not_matter(found: list[TaskScore]) -> None:
    assert diagnose(DiagnosisConfig(), found, [], "m") == diagnose(DiagnosisConfig(), found[::-1], [], "m")


def test_chance_alone_names_no_task_weak() -> None:
    found = [score("sure", 30, 40, 50), score("unsure", 10, 39, 70), score("good", 80, 90, 95)]
    result = diagnose(DiagnosisConfig(threshold=60), found, [], "m")
    assert result.weak_bucket == ("sure",)
    reasons = {task.task: task.reason for task in result.tasks}
    assert "all of it below 60" in reasons["sure"] and "reaches 60" in reasons["unsure"]


def test_failures_are_counted_by_kind_for_each_task() -> None:
    rows = [
        prediction("a", "", 0.0, False), prediction("a", " \n", 0.0, False), prediction("a", "what?", 0.0, False),
        prediction("a", "no", 0.0, True), prediction("a", "[x]", 0.5, True), prediction("a", "yes", 1.0, True),
        prediction("b", "no", 0.0, True),
    ]  # fmt: skip
    assert failure_kinds(rows[:6]) == {"empty": 2, "format": 1, "partial": 1, "wrong": 1}
    result = diagnose(DiagnosisConfig(), [score("a", 0, 10, 20), score("b", 0, 1, 2)], rows, "m")
    assert {task.task: task.failure_kinds for task in result.tasks}["b"] == {"wrong": 1}
