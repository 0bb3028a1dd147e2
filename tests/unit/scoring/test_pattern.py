from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from megatron_redone.scoring.pattern import (
    Pattern,
    PatternReward,
    after_cue,
    language_share,
    num_words,
    read_bars,
    read_commas,
    read_label,
    read_letter,
    read_level,
    read_line,
)


def test_bars_need_the_right_number_of_parts_on_one_line() -> None:
    assert read_bars(" Food | Baking|Bread ", 3) == ["Food", "Baking", "Bread"]
    assert read_bars("美食｜烘焙｜面包", 3) == ["美食", "烘焙", "面包"]
    assert read_bars("Food | Baking", 3) is None
    assert read_bars("Food | | Bread", 3) is None
    assert read_bars("Food |\nBaking | Bread", 3) is None


def test_commas_by_language() -> None:
    assert read_commas("tea,  green tea, tea", "en") == ["tea", "green tea"]
    assert read_commas("茶，绿茶、红茶,白茶", "zh") == ["茶", "绿茶", "红茶", "白茶"]
    assert read_commas("茶，绿茶", "en") == ["茶，绿茶"]
    assert read_commas("tea,,milk", "en") is None
    assert read_commas("tea\nmilk", "en") is None
    assert read_commas("tea,", "en") is None


def test_labels_as_they_stand_before_labels_alike() -> None:
    labels = ["Food", "FOOD!", "Home Decor"]
    assert read_label("Food", labels) == "Food"
    assert read_label("FOOD!", labels) == "FOOD!"
    assert read_label("home  decor.", labels) == "Home Decor"
    assert read_label("Home", labels) is None
    assert read_label("...", labels) is None


def test_letters_within_the_options() -> None:
    assert [read_letter(text, 3) for text in ("B", "b", "C.", "(A)", "[b]")] == ["B", "B", "C", "A", "B"]
    assert [read_letter(text, 3) for text in ("D", "AB", "A or B", "1", "", "()")] == [None] * 6


def test_levels_are_the_whole_answer() -> None:
    levels = (-1, 0, 1, 2, 3)
    assert [read_level(text, levels) for text in ("-1", " 3.", "２", "\u22121")] == [-1, 3, 2, -1]
    assert [read_level(text, levels) for text in ("4", "level 2", "2 3", "1.5", "--1", "", "9" * 400)] == [None] * 7


def test_cues_open_an_answer_with_either_colon() -> None:
    assert after_cue("Intent: buy-price", ("Intent",)) == "buy-price"
    assert after_cue("intent ：buy", ("Intent",)) == "buy"
    assert after_cue("意图：买", ("Intent", "意图")) == "买"
    assert after_cue("The Intent: buy", ("Intent",)) is None
    assert after_cue("Intent buy", ("Intent",)) is None


def test_a_line_is_one_line() -> None:
    assert read_line("  where to buy tea \n") == "where to buy tea"
    assert read_line("two\nlines") is None
    assert read_line(" \n ") is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", 0),
        ("one two, three!", 3),
        ("don't re-use 1,000.5", 3),
        ("我爱Starbucks咖啡", 5),
        ("😊 ...", 0),
        ("你好 hi 2", 4),
    ],
)
def test_words_of_mixed_text(text: str, words: int) -> None:
    assert num_words(text) == words


def test_language_share_counts_words_and_characters() -> None:
    assert language_share("I love tea", "en") == 1.0
    assert language_share("我喜欢Starbucks的咖啡！！ 123", "zh") == pytest.approx(6 / 7)
    assert language_share("привет you", "en") == pytest.approx(1 / 7)
    assert language_share("ありがとう", "zh") == 0.0
    assert language_share("12 😊", "en") == 0.0


@given(st.text())
def test_shares_of_the_two_languages_never_exceed_1(text: str) -> None:
    assert 0.0 <= language_share(text, "en") + language_share(text, "zh") <= 1.0 + 1e-9


def test_the_pattern_reward_names_every_broken_rule() -> None:
    pattern = Pattern(language="en", max_words=4, any_of=("take care", "here for you"), one_line=True)
    kept, long_one, chinese, lines, empty, unreadable = PatternReward().score(
        ["Take  care, dear!", "take care of all of it", "放心吧", "take care\nbye", "  ", None], [pattern] * 6
    )
    assert (kept.value, kept.reason) == (1.0, "")
    assert long_one.value == 0.0
    assert set(long_one.statistics) == {"kept", "broken_too_long"}
    assert {"broken_language", "broken_cue"} <= set(chinese.statistics)
    assert lines.reason == "2 lines, one asked"
    assert "at least 1 asked" in empty.reason
    assert (unreadable.value, unreadable.parsed) == (0.0, False)
    assert PatternReward().aggregate([kept, empty]) == 0.5


def test_min_words() -> None:
    assert "too_short" in Pattern(min_words=3).problems("two words")
    assert Pattern(min_words=2).problems("two words") == {}
