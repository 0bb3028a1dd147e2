from __future__ import annotations

import pytest

from megatron_redone.curation.diagnosis.failure_kinds import KINDS, failure_examples, failure_kind, failure_kinds
from tests.unit.curation.diagnosis.simulated import prediction


@pytest.mark.parametrize(
    ("kind", "value", "more"),
    [
        (None, 1.0, {"output": ""}),
        ("over-long", 0.0, {"output": "", "over_long": True}),
        ("empty", 0.0, {"output": " \n", "parsed": False}),
        ("language", 0.0, {"output": "a red dress", "target": "一条红色连衣裙"}),
        ("language", 0.4, {"output": "一条红色连衣裙", "target": "a red dress"}),
        ("format", 0.0, {"output": "what is this?", "parsed": False}),
        ("format", 0.0, {"output": "A", "target": "一条红色连衣裙", "parsed": False}),
        ("partial", 0.4, {"output": "红色 dress", "target": "一条红色连衣裙"}),
        ("wrong", 0.0, {"output": "42 \ud83d\ude00", "target": "41"}),
    ],
)
def test_an_answer_fails_in_one_way(kind: str | None, value: float, more: dict[str, object]) -> None:
    one = prediction("a", 0, value, **more)
    assert failure_kind(one) == kind
    assert failure_kinds([one, one]) == ({} if kind is None else {kind: 2})


def test_examples_are_the_worst_of_each_kind_and_cut() -> None:
    rows = [prediction("a", number, number / 10, output="x" * 5000) for number in range(1, 10)]
    rows += [prediction("a", 20, 0.0, output="")]
    found = failure_examples(rows, 2)
    assert [(one.kind, one.value) for one in found] == [("empty", 0.0), ("partial", 0.1), ("partial", 0.2)]
    assert found[1].output.endswith("(3800 more characters)")
    assert failure_examples(rows[::-1], 2) == found and not failure_examples(rows, 0)
    assert [one.kind for one in found] == sorted((one.kind for one in found), key=KINDS.index)
