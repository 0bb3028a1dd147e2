"""How well a judge agrees with people, and the gate it has to pass before it labels for them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from megatron_redone.scoring.config import GateConfig
from megatron_redone.scoring.judge import LABELS, Label, Verdict
from megatron_redone.scoring.statistics import bootstrap_interval, cohen_kappa, kappa_interval, wilson_interval

Interval = tuple[float, float]


@dataclass(frozen=True)
class PositionBias:
    """What the order of the two answers does to a pairwise judge.

    Attributes:
        disagreement: share of the pairs whose two readings are readable and differ.
        disagreement_interval: Wilson's.
        first_share: share of the readings with a winner whose winner was shown first; 0.5 is no preference.
        first_share_interval: Wilson's, with every reading as a trial of its own.
    """

    disagreement: float
    disagreement_interval: Interval
    first_share: float
    first_share_interval: Interval


@dataclass(frozen=True)
class Agreement:
    """Figures of a judge on pairs that people labelled; shares in 0..1.

    Attributes:
        num_pairs: all labelled pairs.
        num_compared: those that accuracy and kappa are over (all, or without ties: `leave_out_ties`).
        accuracy, accuracy_interval: share with equal labels, percentile bootstrap.
        kappa, kappa_interval: Cohen's, percentile bootstrap.
        decided: share of all pairs with a winner by the judge.
        accuracy_of_decided: of the pairs that judge and people decide, the share with the same winner.
        unreadable: share of all pairs with a reply that could not be read.
        position: None for a judge that scores answers by themselves.
        confusion: counts by people's label, then by the judge's.
    """

    num_pairs: int
    num_compared: int
    accuracy: float
    accuracy_interval: Interval
    kappa: float
    kappa_interval: Interval
    decided: float
    accuracy_of_decided: float
    unreadable: float
    position: PositionBias | None
    confusion: dict[str, dict[str, int]]

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


def measure_agreement(human: Sequence[Label], verdicts: Sequence[Verdict], gate: GateConfig, seed: int) -> Agreement:
    """Figures over pairs, people's labels against the judge's.

    Raises:
        ValueError: lengths differ, or there are no pairs.
    """
    if len(human) != len(verdicts) or not human:
        raise ValueError(f"{len(human)} labels for {len(verdicts)} verdicts; give one for each pair, at least one")
    judged = [verdict.winner for verdict in verdicts]
    both = list(zip(human, judged, strict=True))
    decided = [(mine, theirs) for mine, theirs in both if "tie" not in (mine, theirs)]
    compared = decided if gate.leave_out_ties else both
    # no pair that both decide: nothing agrees
    mine, theirs = [list(labels) for labels in zip(*(compared or [("a", "b")]), strict=True)]
    hits = [float(a == b) for a, b in zip(mine, theirs, strict=True)]
    counts = Counter(both)
    return Agreement(
        num_pairs=len(both),
        num_compared=len(compared),
        accuracy=sum(hits) / len(hits),
        accuracy_interval=bootstrap_interval(hits, seed, gate.level, gate.num_resamples),
        kappa=cohen_kappa(mine, theirs),
        kappa_interval=kappa_interval(mine, theirs, seed, gate.level, gate.num_resamples),
        decided=sum(label != "tie" for label in judged) / len(judged),
        accuracy_of_decided=sum(a == b for a, b in decided) / len(decided) if decided else 0.0,
        unreadable=sum(verdict.unreadable for verdict in verdicts) / len(verdicts),
        position=_position_bias(verdicts, gate.level),
        confusion={a: {b: counts[a, b] for b in LABELS} for a in LABELS},
    )


def _position_bias(verdicts: Sequence[Verdict], level: float) -> PositionBias | None:
    readings = [verdict.readings for verdict in verdicts if verdict.readings is not None]
    if not readings:
        return None
    differ = sum(None not in pair and pair[0] != pair[1] for pair in readings)
    first = sum((pair[0] == "a") + (pair[1] == "b") for pair in readings)
    second = sum((pair[0] == "b") + (pair[1] == "a") for pair in readings)
    decisions = first + second
    return PositionBias(
        differ / len(readings),
        wilson_interval(differ, len(readings), level),
        first / decisions if decisions else 0.5,
        wilson_interval(first, decisions, level) if decisions else (0.0, 1.0),
    )


def gate_failures(agreement: Agreement, human: Sequence[Label], gate: GateConfig) -> list[str]:
    """Every rule of the gate that the judge breaks, as a sentence with figure and threshold; empty: it passes."""
    failures = []
    if agreement.num_compared < gate.min_pairs:
        failures.append(f"{agreement.num_compared} pairs to compare, at least {gate.min_pairs} are needed")
    if len(set(human)) < 2:
        failures.append("people gave all pairs the same label, so agreement cannot be told from chance")
    for name, value, (low, high), bound in (
        ("accuracy", agreement.accuracy, agreement.accuracy_interval, gate.min_accuracy),
        ("kappa", agreement.kappa, agreement.kappa_interval, gate.min_kappa),
    ):
        if low < bound:
            failures.append(f"{name} {value:.3f} [{low:.3f}, {high:.3f}]: its lower end must reach {bound:g}")
    if agreement.decided < gate.min_decided:
        failures.append(f"it decides {agreement.decided:.1%} of the pairs, at least {gate.min_decided:.1%} are asked")
    position = agreement.position
    if position is not None and position.disagreement > gate.max_position_disagreement:
        failures.append(
            f"its two readings differ on {position.disagreement:.1%} of the pairs, at most "
            f"{gate.max_position_disagreement:.1%} may; it prefers the answer shown first in {position.first_share:.1%}"
        )
    return failures


def describe(agreement: Agreement) -> str:
    """The figures in one line."""
    low, high = agreement.accuracy_interval
    text = f"accuracy {agreement.accuracy:.3f} [{low:.3f}, {high:.3f}], "
    low, high = agreement.kappa_interval
    text += f"kappa {agreement.kappa:.3f} [{low:.3f}, {high:.3f}] over {agreement.num_compared} pairs, "
    text += f"decided {agreement.decided:.1%}"
    if agreement.position is not None:
        text += f", orders differ {agreement.position.disagreement:.1%}, first {agreement.position.first_share:.1%}"
    return text
