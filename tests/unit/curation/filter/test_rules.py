from __future__ import annotations

import pytest

from megatron_redone.curation.filter.config import FilterConfig
from megatron_redone.curation.filter.rules import judge

CLEAN = {
    "en": "We took the slow train along the coast, and I still think the tomatoes at that small market were worth it.",
    "en short": "The best noodles in town!",
    "en markup-like": "I love this <3 and if a < b then b > a, as my teacher wrote it & we believed her for years.",
    "zh": "周末和朋友去了城西的小店，点了三道菜，味道清淡但是很鲜，老板还送了一碗汤，下次想带爸妈一起来。",
    "zh short": "这家店真的不错！",
    "zh with english": "这次入手的 iPhone 拍照效果比想象中好，夜景也很干净，推荐给喜欢 vlog 的朋友们。",
    "en slang": "gonna grab coffee lol brb ya'll stay put",
    "en entities": "So happy today with you all " + "&#128514;" * 6 + " wow!",
    "en with address": "I rescued a baby bird http://t.co/Ad7yy4Cxxx",
    "zh with names": "恭喜入选年度最期待的25部外语片25ofthemostanticipatedforeignfilmsof2014",
    "zh with kana": "这家店の奶茶真的好喝，周末和姐妹们一起去排队也值得，推荐大家试试看。",
    "zh chat": "加油！晚安！\n晚安",
    "accents": "The café near the old station, a naïve little place with a strange façade, is where Zoë and I met.",
}
GOOD_ZH, GOOD_EN = CLEAN["zh"], CLEAN["en"]
PLANTED = [
    ("encoding", GOOD_ZH.encode().decode("gbk", "ignore")),
    ("encoding", "L’été où nous étions à l’école".encode().decode("cp1252", "replace") + " and more"),
    ("encoding", GOOD_EN + " " + GOOD_ZH.encode().decode("latin-1")),
    ("encoding", "锟斤拷锟斤拷" + GOOD_ZH),
    ("encoding", GOOD_ZH.replace("朋友", "\ufffd\ufffd")),
    ("encoding", GOOD_EN + "\ud83d"),
    ("encoding", GOOD_EN.replace(" ", "\x00")),
    ("html", "".join(f"<div class='item item-{i}'><a href='/page/{i}'>go</a></div>" for i in range(20)) + GOOD_EN),
    ("too_short", "Hi there"),
    ("too_short", "好的"),
    ("too_long", "river " * 40 + GOOD_EN * 10),
    ("urls", "look https://example.com/a/very/long/address?with=many&parts=inside and http://example.org/another/one"),
    ("urls", "看这个链接很好https://example.com/a/very/long/address?with=many&parts=inside"),
    ("symbols", "★★★★★ ✔✔✔ ■■■■■ ▲▲▲▲ the hot sale is now on ◆◆◆◆◆"),
    ("symbols", "🎉🎉🎉🎉🎉🎉🎉🎉抽奖活动开始啦🎁🎁🎁🎁🎁🎁"),
    ("repetition", "Buy it now and save.\n" * 8),
    ("repetition", "快来买吧，真的很便宜。" * 8),
    ("repetition", "The best place to buy cheap shoes online is here today friends " * 5),
    ("repetition", "哈哈哈哈哈哈哈哈哈哈哈哈哈哈哈哈哈哈哈哈哈哈"),
    ("repetition", "no no no no no no no no"),
    ("language", "Вчера мы ездили на поезде к морю, и весь день стояла прекрасная погода."),
    ("language", "Gestern sind wir mit dem Zug an die Küste gefahren, und das Wetter war die ganze Zeit wunderschön."),
    ("language", "昨日は友達と一緒に海まで電車で行きました。天気がとても良くて、写真をたくさん撮りました。"),
]


@pytest.mark.parametrize("name", CLEAN)
def test_clean_texts_are_kept(name: str) -> None:
    judged = judge(CLEAN[name], FilterConfig())
    assert (judged.reason, judged.detail) == (None, "")
    assert judged.language == name[:2].replace("ac", "en")


@pytest.mark.parametrize(("reason", "text"), PLANTED, ids=[f"{i}-{reason}" for i, (reason, _) in enumerate(PLANTED)])
def test_planted_faults_are_dropped_for_their_reason(reason: str, text: str) -> None:
    config = FilterConfig.model_validate({"length": {"max_units": 200}})
    judged = judge(text, config)
    assert judged.reason == reason
    assert judged.detail


@pytest.mark.parametrize(
    "loosened",
    [
        {"encoding": {"max_mojibake_share": 1.0}},
        {"content": {"max_symbol_share": 1.0}},
        {"content": {"max_url_share": 1.0}},
        {"repetition": {"max_line_share": 1, "max_sentence_share": 1, "max_ngram_share": 1}},
        {"language": {"keep": ["de", "ja", "en", "zh"]}},
        {"language": {"keep": []}},
        {"length": {"min_units": 0}},
    ],
)
def test_every_threshold_decides(loosened: dict[str, object]) -> None:
    strict = FilterConfig()
    loose = FilterConfig.model_validate(loosened)
    changed = [judge(t, strict).reason != judge(t, loose).reason for _, t in PLANTED]
    assert any(changed)


def test_markup_is_stripped_and_entities_are_decoded() -> None:
    text = (
        "<div><p>The bread &amp; butter at <b>Anna&#39;s</b></p><script>var x = 1;</script>"
        "<p>costs 3 coins a day.</p></div>"
    )
    judged = judge(text, FilterConfig())
    assert judged.text == "The bread & butter at Anna's\n\ncosts 3 coins a day."
    assert judged.changed["tags"] == 12


def test_markup_may_be_kept_or_dropped() -> None:
    text = f"<p>{GOOD_EN}</p><p>{GOOD_ZH}</p>"
    assert judge(text, FilterConfig.model_validate({"html": {"action": "keep"}})).text == text
    assert judge(text, FilterConfig.model_validate({"html": {"action": "drop"}})).reason == "html"
    assert judge(text, FilterConfig.model_validate({"html": {"action": "drop", "max_tags": 4}})).reason is None


def test_a_few_control_characters_are_taken_out() -> None:
    judged = judge("\ufeff" + GOOD_EN + "\x07\r\nand on.", FilterConfig())
    assert judged.reason is None
    assert judged.text == GOOD_EN + "\nand on."
    assert judged.changed == {"control": 1}


def test_private_data_is_masked_in_kept_and_dropped_texts() -> None:
    kept = judge(f"{GOOD_ZH}请联系 li.lei@example.com 或 13812345678。", FilterConfig())
    assert kept.text.endswith("请联系 <EMAIL> 或 <PHONE>。")
    assert kept.changed == {"email": 1, "phone": 1}
    dropped = judge("13812345678", FilterConfig())
    assert (dropped.reason, dropped.text) == ("too_short", "<PHONE>")


def test_half_a_surrogate_pair_leaves_no_trace_in_what_is_written() -> None:
    judge(GOOD_EN + "\ud83d", FilterConfig()).text.encode("utf-8")


def test_unclear_languages_may_be_dropped() -> None:
    config = FilterConfig.model_validate({"language": {"unclear": "drop"}})
    assert judge(CLEAN["en slang"], config).reason == "language_unclear"
