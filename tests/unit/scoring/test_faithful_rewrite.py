"""Distortions of titles are found, honest rewrites are not blamed."""

from __future__ import annotations

from fractions import Fraction

import pytest

from megatron_redone.scoring.faithful_rewrite import FaithfulRewrite, Original
from megatron_redone.scoring.original_facts import facts_of, is_negated

SCORER = FaithfulRewrite()

HONEST = [
    ("en", "3 days in Kyoto without a car", "Kyoto car-free: how to spend 3 days, no driving", ""),
    ("en", "My iPhone 15 died after 2 weeks", "Two weeks in, and my iPhone 15 was gone", ""),
    ("en", "Don't buy this sofa!", "Never again: why this sofa is not worth it", ""),
    ("en", "A cake for $1,200? We tried it", "We tasted the 1.2k dollar cake", ""),
    ("en", "ten outfits for autumn", "10 looks to wear this autumn", ""),
    ("en", "Ramen at home", "Ramen at home in 20 minutes", "Ready in 20 minutes, promise."),
    ("en", "I can't wait for spring", "So excited about spring", ""),
    ("zh", "三天玩转成都，人均500元", "成都3天攻略：人均五百元就够", ""),
    ("zh", "这家店不好吃，别去", "千万别踩雷！这家店真的不行", ""),
    ("zh", "不错的周末好去处", "周末就去这里，特别舒服", ""),
    ("zh", "用iPad画画的第30天", "坚持30天，我用iPad学会了画画", ""),
    ("zh", "重读《活着》", "为什么要再读一遍《活着》", ""),
    ("zh", "月薪3万的一天", "月薪三万元的打工人怎么过一天", ""),
    ("zh", "无论如何都要来一次", "这里真的非常值得来", ""),
]
DISTORTED = [
    ("en", "3 days in Kyoto without a car", "5 days in Kyoto without a car", "5"),
    ("en", "3 days in Kyoto without a car", "3 days in Kyoto by car", "negation"),
    ("en", "we met Anna in the park", "we met Maria in the park", "anna"),
    ("en", "We waited 40 minutes for @noodlebar", "A short wait for @noodlebar", "40"),
    ("en", "Is this cream good?", "90% say this cream works", "invented: 90%"),
    ("en", "Don't buy this sofa!", "Buy this sofa!", "negation"),
    ("zh", "三天玩转成都，人均500元", "三天玩转成都，人均50元", "500"),
    ("zh", "这家店不好吃", "这家店好吃到哭", "negation"),
    ("zh", "用iPad画画的第30天", "用手机画画的第30天", "ipad"),
    ("zh", "重读《活着》", "重读《围城》", "活着"),
    ("zh", "孩子能喝这款奶", "孩子不能喝这款奶", "negation"),
    ("zh", "涨价2%", "涨价20%", "20%"),
]


def value_of(language: str, title: str, rewrite: str, context: str = "") -> tuple[float, str]:
    score = SCORER.score([rewrite], [Original(title, context, language)])[0]
    return score.value, score.reason


@pytest.mark.parametrize(("language", "title", "rewrite", "context"), HONEST)
def test_honest_rewrites_are_faithful(language: str, title: str, rewrite: str, context: str) -> None:
    assert value_of(language, title, rewrite, context) == (1.0, "")


@pytest.mark.parametrize(("language", "title", "rewrite", "told"), DISTORTED)
def test_distortions_are_told(language: str, title: str, rewrite: str, told: str) -> None:
    value, reason = value_of(language, title, rewrite)
    assert value < 1.0 and told in reason
    assert value_of(language, title, title) == (1.0, "")


def test_a_flipped_negation_leaves_nothing() -> None:
    assert value_of("en", "Anna did not like 3 of them", "Anna did like 3 of them")[0] == 0.0


@pytest.mark.parametrize(
    ("language", "text", "numbers"),
    [
        ("zh", "二十三个", [23]),
        ("zh", "一千二百元", [1200]),
        ("zh", "两万三千人", [23000]),
        ("zh", "一起去万一下雨", []),
        ("zh", "１２．５公里", [12.5]),
        ("en", "1,234.5 and 20k, and 3 million", [1234.5, 20000, 3000000]),
        ("en", "B2B or mp3", []),
    ],
)
def test_numbers_by_value(language: str, text: str, numbers: list[float]) -> None:
    assert facts_of(text, language).numbers == {(Fraction(str(number)), False) for number in numbers}


@pytest.mark.parametrize("text", ["", "\x00", "9" * 5000, "不" * 10_000, "#" * 3000, "《" * 3000, "\ud800 3"])
def test_any_text_is_read(text: str) -> None:
    for language in ("en", "zh"):
        assert 0.0 <= value_of(language, text, text)[0] <= 1.0
        assert 0.0 <= value_of(language, "3 cats", text)[0] <= 1.0


def test_a_negation_of_the_note_may_enter_the_title() -> None:
    assert value_of("en", "Sofa review", "Not my sofa", "I do not like it.")[0] == 1.0
    assert value_of("en", "Sofa review", "Not my sofa", "I like it.")[0] == 0.0
    assert not is_negated("no wonder, no doubt", "en") and is_negated("it isn\u2019t", "en")
