"""Texts are cut at borders of sentences, lose nothing, and inside a sentence only where it alone is too long."""

from __future__ import annotations

import pytest
from hypothesis import given, settings, strategies as st

from megatron_redone.curation.segments import estimated_tokens, script_language, segments, sentences

PIECES = st.sampled_from(
    [
        "a",
        "Tent ",
        "is warm. ",
        "今天去海边。",
        "好！",
        "3.5 ",
        "Dr. ",
        "\n\n",
        "“真的吗？”",
        "why? ",
        "…",
        "e.g. ",
        "x" * 70,
    ]
)
TEXTS = st.lists(PIECES, max_size=40).map("".join)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It rained. We left! Why? no", ["It rained. ", "We left! ", "Why? ", "no"]),
        ("下雨了。我们走吧！好", ["下雨了。", "我们走吧！", "好"]),
        ("他说：“走吧。”她没动。", ["他说：“走吧。”", "她没动。"]),
        ('He said "go." She stayed.', ['He said "go." ', "She stayed."]),
        ("Version 3.5 of Dr. Who, e.g. this one.", ["Version 3.5 of Dr. Who, e.g. this one."]),
        ("title\n\nfirst line\nsecond", ["title\n\n", "first line\n", "second"]),
        ("", []),
    ],
)
def test_sentences_end_where_readers_see_it(text: str, expected: list[str]) -> None:
    assert list(sentences(text)) == expected


@given(TEXTS)
def test_sentences_joined_are_the_text(text: str) -> None:
    assert "".join(sentences(text)) == text


@given(TEXTS, st.integers(4, 60))
@settings(max_examples=200)
def test_segments_are_whole_sentences_that_fit_and_lose_nothing(text: str, max_tokens: int) -> None:
    found = list(segments(text, max_tokens))
    assert "".join("".join(found).split()) == "".join(text.split())
    assert all(estimated_tokens(segment) <= max_tokens for segment in found)
    if all(estimated_tokens(sentence) <= max_tokens for sentence in sentences(text)):
        ends, place = {0}, 0
        for sentence in sentences(text):
            place += len("".join(sentence.split()))
            ends.add(place)
        place = 0
        for segment in found:
            place += len("".join(segment.split()))
            assert place in ends, "cut inside a sentence"


def test_a_sentence_longer_than_the_limit_is_cut_at_white_space_where_there_is_some() -> None:
    words = " ".join(["seventeen"] * 40)
    assert all(set(segment.split()) == {"seventeen"} for segment in segments(words, 20))
    assert all(1 < len(segment) <= 30 for segment in segments("长" * 500, 20))


def test_any_counter_of_tokens_may_be_given() -> None:
    found = list(segments("one two. three four five. six.", 4, lambda text: len(text.split())))
    assert found == ["one two.", "three four five. six."]


def test_the_script_tells_the_language() -> None:
    assert [script_language(text) for text in ("best tent", "最好的帐篷", "iPhone 手机壳推荐", "tent 10€")] == [
        "en", "zh", "zh", "en"
    ]  # fmt: skip
