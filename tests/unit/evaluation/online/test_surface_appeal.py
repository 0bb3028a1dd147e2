from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from megatron_redone.evaluation.online.surface_appeal import surface_appeal


@pytest.mark.parametrize(
    ("title", "signs"),
    [
        ("", 0),
        ("!!! ...", 0),
        ("How I packed my bag: 7 things you forget", 5),  # "things" is vague
        ("How I packed my bag: 7 mistakes you make", 6),
        ("Some stuff", 0),
        ("我花300元逛苏州的攻略，你也可以试试", 6),
        ("日常", 0),
    ],
)
def test_each_sign_counts_a_sixth(title: str, signs: int) -> None:
    assert surface_appeal(title) == pytest.approx(signs / 6)


@given(st.text(max_size=200))
def test_any_text_has_a_score(title: str) -> None:
    assert 0.0 <= surface_appeal(title) <= 1.0
