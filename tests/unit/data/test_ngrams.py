from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, strategies as st

from megatron_redone.data.ngrams import ngram_hashes, num_cjk, unit_hashes, units


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It's a Test, with 3 parts_of it.", ["it's", "a", "test", "with", "3", "parts", "of", "it"]),
        ("我爱ＡＢＣ，和北京！", ["我", "爱", "abc", "和", "北", "京"]),
        ("カフェ ok", ["カ", "フ", "ェ", "ok"]),
        ("...!!!", []),
    ],
)
def test_units_are_words_and_single_characters_of_scripts_without_spaces(text: str, expected: list[str]) -> None:
    assert units(text) == expected


def test_han_and_kana_are_counted() -> None:
    assert num_cjk("我 am カ") == 2


@given(st.lists(st.sampled_from("abcde"), max_size=30), st.integers(1, 6))
def test_equal_ngrams_have_equal_hashes_and_different_ones_different(found: list[str], n: int) -> None:
    hashes = ngram_hashes(unit_hashes(found), n)
    grams = [tuple(found[i : i + n]) for i in range(len(found) - n + 1)]
    assert len(hashes) == len(grams)
    assert len(np.unique(hashes)) == len(set(grams))


def test_hashes_are_the_same_in_every_process() -> None:
    assert ngram_hashes(unit_hashes(["red", "book"]), 2).tolist() == [10555673994512784631]


def test_order_counts() -> None:
    forth, back = (ngram_hashes(unit_hashes(found), 2)[0] for found in (["a", "b"], ["b", "a"]))
    assert forth != back
