"""The slow rank is named, and nobody where all are alike."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from megatron_redone.parallel.context import ParallelContext
from megatron_redone.training import stragglers
from megatron_redone.training.stragglers import RankSpeeds, StragglerProbe


def test_the_slowest_is_measured_against_the_median() -> None:
    speeds = RankSpeeds((1.0, 1.1, 3.0, 1.2))
    assert speeds.slowest == 2
    assert speeds.slowdown == pytest.approx(3.0 / 1.1)
    assert RankSpeeds((1.0, 2.0)).slowdown == 2.0  # the faster of two is the measure


class Ranks:
    """Stands for the other ranks of a group: a rank is `slowness` times as slow as this one."""

    def __init__(self, slowness: list[float]) -> None:
        self.slowness = slowness

    def gather(self, value: float) -> list[float]:
        return [value * factor for factor in self.slowness]


def probe_among(ranks: Ranks, context: ParallelContext, monkeypatch: pytest.MonkeyPatch) -> StragglerProbe:
    monkeypatch.setattr(ParallelContext, "gather_from_all", lambda self, value: ranks.gather(value))
    return StragglerProbe(replace(context, world_size=len(ranks.slowness)), window=3)


@pytest.mark.parametrize(("slowness", "named"), [([1.0, 1.0, 1.0], None), ([1.0, 1.0, 2.0], "rank 2 is slow: 2.00")])
def test_a_slow_rank_is_told_once(
    parallel_context: ParallelContext, monkeypatch: pytest.MonkeyPatch, slowness: list[float], named: str | None
) -> None:
    said: list[str] = []
    monkeypatch.setattr(stragglers.LOG, "warning", lambda text, *rest: said.append(text))
    probe = probe_among(Ranks(slowness), parallel_context, monkeypatch)
    found: list[Any] = [probe.after_step() for _ in range(9)]
    assert [speeds is not None for speeds in found] == [False, False, True] * 3
    assert found[2].slowest == (0 if named is None else 2)
    assert len(said) == (0 if named is None else 1)
    assert named is None or named in said[0]


def test_one_process_has_nobody_to_wait_for(parallel_context: ParallelContext) -> None:
    probe = StragglerProbe(parallel_context, window=1)
    assert probe.after_step() is None
