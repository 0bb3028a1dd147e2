from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, strategies as st

from megatron_redone.common.seeding import rng
from megatron_redone.scoring.agreement import gate_failures, measure_agreement
from megatron_redone.scoring.config import GateConfig
from megatron_redone.scoring.judge import (
    Comparison,
    Label,
    PairwiseJudge,
    PointwiseJudge,
    Verdict,
    agreed,
    length_scores,
    one_by_one,
    prompted_scores,
)
from megatron_redone.scoring.judge_prompts import ChatMessage

READING = st.sampled_from(["a", "b", "tie", None])
QUESTION = [{"role": "user", "content": "which one?"}]


def comparison(number: int, a: str, b: str) -> Comparison:
    return Comparison(f"c{number}", QUESTION, a, b, "en" if number % 2 else "zh")


def shown_answers(messages: Sequence[ChatMessage]) -> tuple[str, str]:
    text = messages[-1]["content"]
    return text.split("<A>\n")[1].split("\n</A>")[0], text.split("<B>\n")[1].split("\n</B>")[0]


def labelled(count: int = 200) -> tuple[list[Comparison], list[Label]]:
    """Comparisons of a good and a bad answer, in random order, a tenth of them ties."""
    random = rng("labelled comparisons")
    comparisons: list[Comparison] = []
    labels: list[Label] = []
    for number in range(count):
        label: Label = random.choice(["a", "b"]) if random.random() < 0.9 else "tie"
        quality = {"a": ("good", "bad"), "b": ("bad", "good"), "tie": ("good", "good")}[label]
        comparisons.append(comparison(number, f"{quality[0]} x{number}", f"{quality[1]} y{number}"))
        labels.append(label)
    return comparisons, labels


def perfect(messages: Sequence[ChatMessage]) -> str:
    first, second = (answer.startswith("good") for answer in shown_answers(messages))
    return "so\nVerdict: " + ("Tie" if first == second else "A" if first else "B")


def prefers_first(messages: Sequence[ChatMessage]) -> str:
    return "Verdict: A"


def biased(messages: Sequence[ChatMessage]) -> str:
    """Right about half of the pairs, else for the one shown first."""
    number = int(shown_answers(messages)[0].rpartition("x")[2].rpartition("y")[2])
    return perfect(messages) if number % 2 else "Verdict: A"


def guesses(messages: Sequence[ChatMessage]) -> str:
    return "Verdict: " + rng("guess", *sorted(shown_answers(messages))).choice(["A", "B", "Tie"])


def consistent_guesses(messages: Sequence[ChatMessage]) -> str:
    answers = shown_answers(messages)
    winner = rng("guess", *sorted(answers)).choice(sorted(answers))
    return f"Verdict: {'AB'[answers.index(winner)]}"


def failures_of(complete: object, gate: GateConfig | None = None) -> list[str]:
    comparisons, labels = labelled()
    gate = gate or GateConfig()
    verdicts = PairwiseJudge(one_by_one(complete)).compare(comparisons)  # type: ignore[arg-type]
    return gate_failures(measure_agreement(labels, verdicts, gate, seed=0), labels, gate)


def test_a_judge_that_is_always_right_passes() -> None:
    comparisons, labels = labelled()
    verdicts = PairwiseJudge(one_by_one(perfect, threads=3)).compare(comparisons)
    assert [verdict.winner for verdict in verdicts] == labels
    found = measure_agreement(labels, verdicts, GateConfig(), seed=0)
    assert (found.accuracy, found.kappa, found.accuracy_of_decided, found.unreadable) == (1.0, 1.0, 1.0, 0.0)
    assert found.position is not None and found.position.disagreement == 0.0
    assert found.position.first_share == 0.5
    assert gate_failures(found, labels, GateConfig()) == []


def test_a_judge_that_takes_the_first_answer_decides_nothing_and_fails() -> None:
    comparisons, labels = labelled()
    verdicts = PairwiseJudge(one_by_one(prefers_first)).compare(comparisons)
    assert {verdict.winner for verdict in verdicts} == {"tie"}
    found = measure_agreement(labels, verdicts, GateConfig(), seed=0)
    assert found.position is not None
    assert (found.position.disagreement, found.position.first_share, found.decided) == (1.0, 1.0, 0.0)
    failures = " ".join(gate_failures(found, labels, GateConfig()))
    assert "two readings differ on 100.0%" in failures and "shown first in 100.0%" in failures
    assert "accuracy" in failures and "kappa" in failures and "decides 0.0%" in failures


def test_a_bias_shows_and_fails_by_its_own_rule_though_accuracy_of_what_is_decided_is_perfect() -> None:
    gate = GateConfig(leave_out_ties=True, min_pairs=50, min_decided=0.3)
    (failure,) = failures_of(biased, gate)
    assert failure.startswith("its two readings differ on")
    assert failures_of(biased, gate.model_copy(update={"max_position_disagreement": 0.6})) == []


@pytest.mark.parametrize("judge", [guesses, consistent_guesses])
def test_a_judge_that_guesses_fails(judge: object) -> None:
    failures = failures_of(judge)
    assert any(failure.startswith("kappa") for failure in failures)
    assert any(failure.startswith("accuracy") for failure in failures)


def test_replies_that_cannot_be_read_are_ties_and_counted() -> None:
    def half(messages: Sequence[ChatMessage]) -> str:
        return perfect(messages) if shown_answers(messages)[0] > shown_answers(messages)[1] else "I cannot say."

    comparisons, labels = labelled(20)
    verdicts = PairwiseJudge(one_by_one(half)).compare(comparisons)
    assert all(verdict.winner == "tie" and verdict.unreadable for verdict in verdicts)
    found = measure_agreement(labels, verdicts, GateConfig(), seed=0)
    assert found.unreadable == 1.0 and found.position is not None and found.position.disagreement == 0.0


@given(READING, READING)
def test_both_orders_must_agree(forward: Label | None, backward: Label | None) -> None:
    verdict = agreed(forward, backward)
    assert verdict.winner == (forward if forward == backward and forward is not None else "tie")
    assert verdict.unreadable == (forward is None or backward is None)


@given(st.lists(st.tuples(READING, READING, st.sampled_from(["a", "b", "tie"])), min_size=1, max_size=30))
def test_names_of_the_answers_do_not_matter(rows: list[tuple[Label | None, Label | None, Label]]) -> None:
    """Swapping a and b in labels and readings leaves every figure as it was."""
    other: dict[Label | None, Label | None] = {"a": "b", "b": "a", "tie": "tie", None: None}
    gate = GateConfig(num_resamples=100)
    mine = measure_agreement([label for _, _, label in rows], [agreed(f, b) for f, b, _ in rows], gate, 0)
    theirs = measure_agreement(
        [other[label] or "tie" for _, _, label in rows], [agreed(other[b], other[f]) for f, b, _ in rows], gate, 0
    )
    assert mine.accuracy == theirs.accuracy and mine.kappa == pytest.approx(theirs.kappa)
    assert mine.position == theirs.position and mine.decided == theirs.decided
    assert sum(sum(row.values()) for row in mine.confusion.values()) == len(rows)


def test_too_few_pairs_and_labels_of_one_kind_fail() -> None:
    verdicts = [Verdict("a", readings=("a", "a"))] * 50
    gate = GateConfig()
    labels: list[Label] = ["a"] * 50
    failures = " ".join(gate_failures(measure_agreement(labels, verdicts, gate, 0), labels, gate))
    assert "50 pairs to compare, at least 100" in failures and "same label" in failures


def test_without_ties_only_what_both_decide_counts() -> None:
    labels: list[Label] = ["a", "b", "tie", "a", "b"]
    verdicts = [Verdict(winner) for winner in ("a", "b", "a", "tie", "a")]
    found = measure_agreement(labels, verdicts, GateConfig(leave_out_ties=True), 0)
    assert found.num_compared == 3 and found.accuracy == pytest.approx(2 / 3) == found.accuracy_of_decided
    assert measure_agreement(labels, verdicts, GateConfig(), 0).accuracy == pytest.approx(2 / 5)
    nothing = measure_agreement(["tie"], [Verdict("a")], GateConfig(leave_out_ties=True), 0)
    assert (nothing.num_compared, nothing.accuracy, nothing.kappa) == (0, 0.0, 0.0)


def test_scores_decide_by_more_than_the_margin() -> None:
    pairs = [comparison(0, "long answer", "short"), comparison(1, "same!", "equal"), comparison(2, "x", "yyy")]
    assert [v.winner for v in PointwiseJudge(length_scores).compare(pairs)] == ["a", "tie", "b"]
    assert [v.winner for v in PointwiseJudge(length_scores, 2).compare(pairs)] == ["a", "tie", "tie"]
    assert PointwiseJudge(length_scores).compare(pairs)[0].scores == (11.0, 5.0)


def test_asked_scores_come_from_the_replies_and_one_that_is_unreadable_makes_a_tie() -> None:
    def grade(messages: Sequence[ChatMessage]) -> str:
        text = messages[-1]["content"]
        return "Score: 9" if "good" in text else "Score: 2" if "bad" in text else "nine"

    pairs = [comparison(0, "bad", "good"), comparison(1, "good", "odd")]
    found = PointwiseJudge(prompted_scores(one_by_one(grade))).compare(pairs)
    assert [(v.winner, v.scores, v.unreadable) for v in found] == [
        ("b", (2, 9), False),
        ("tie", (9, None), True),
    ]
    assert measure_agreement(["b", "a"], found, GateConfig(), 0).position is None


def test_figures_need_a_label_for_each_verdict() -> None:
    with pytest.raises(ValueError, match="one for each pair"):
        measure_agreement([], [], GateConfig(), 0)
