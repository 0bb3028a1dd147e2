from __future__ import annotations

import pytest

from megatron_redone.scoring.faithfulness import FactReference, KeptFacts, has_fact
from megatron_redone.scoring.pattern import Pattern


@pytest.mark.parametrize(
    ("text", "fact", "there"),
    [
        ("3 cafes in Lyon", "3", True),
        ("13 cafes", "3", False),
        ("3.5 km", "3", False),
        ("1,300 steps", "300", False),
        ("party time", "art", False),
        ("ART, finally", "art", True),
        ("去了3家店", "3", True),
        ("里昂的咖啡店", "里昂", True),
        ("the  old\ntown", "old town", True),
        ("５ tips", "5", True),
        ("price: $5.", "$5", True),
        ("anything", "  ", False),
    ],
)
def test_facts_stand_as_a_whole(text: str, fact: str, there: bool) -> None:
    assert has_fact(text, fact) is there


def test_value_is_the_share_kept_within_the_length() -> None:
    reference = FactReference(("Lyon", "3"), Pattern(language="en", max_words=5, one_line=True))
    both, one, long_one, unreadable = KeptFacts().score(
        ["3 best cafes of Lyon", "best cafes of Lyon", "in Lyon I found 3 of the best cafes", None],
        [reference] * 4,
    )
    assert [score.value for score in (both, one, long_one, unreadable)] == [1.0, 0.5, 0.0, 0.0]
    assert one.reason == "1 of 2 facts are missing"
    assert "at most 5 allowed" in long_one.reason
    assert KeptFacts().aggregate([both, one, long_one, unreadable]) == pytest.approx(3 / 8)
