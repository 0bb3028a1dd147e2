"""Every label can be read off the text that the row shows: the rules, written again without the generator."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from megatron_redone.curation.synthesize import lexicon, phrases
from megatron_redone.curation.synthesize.texts import SPLITS, Text, normalised, split_of
from megatron_redone.tasks.row import Row

from .conftest import Written

HINTS = {
    "spam": ("free", "win", "follow me", "免费", "点这里", "关注我"),
    "personal attack": ("fool", "stupid", "idiots", "傻瓜", "蠢", "笨蛋"),
    "false claim": ("cures", "rich", "doctors", "forever", "包治百病", "暴富", "医生", "永远"),
}
BARS = ("should not", "only for", "never master", "wrong for", "不该", "只给", "学不会", "不适合")
SELLS = ("order", "coupon", "hurry", "shop", "下单", "优惠券", "大促销", "店")


def named(text: str, pool: tuple[Text, ...], language: str) -> list[Text]:
    """The members of the pool that stand in the text, as words in English."""
    padded = f" {''.join(mark if mark.isalnum() else ' ' for mark in text)} "
    return [word for word in pool if (f" {word.en} " in padded if language == "en" else word.zh in text)]


def items(row: Row, *fields: str) -> list[Text]:
    return named(" ".join(row.fields[field] for field in fields), lexicon.ITEMS, row.language)


def subtopics(row: Row, *fields: str) -> set[lexicon.Subtopic]:
    return {lexicon.SUBTOPIC_OF[item] for item in items(row, *fields)}


def taxonomy(row: Row) -> object:
    (topic,) = {subtopic.topic for subtopic in subtopics(row, "title", "content")}
    return topic.of(row.language)


def categories(row: Row) -> object:
    found = {subtopic.category.of(row.language) for subtopic in subtopics(row, "query")}
    return [category for category in row.fields["categories"] if category in found]


def security(row: Row) -> object:
    hit = [name for name, hints in HINTS.items() if any(hint in row.fields["content"] for hint in hints)]
    (label,) = hit or ["normal"]
    return next(kind.label.of(row.language) for kind in phrases.SECURITY if kind.label.en == label)


def appeal(row: Row) -> object:
    content = row.fields["content"]
    gendered = bool(named(content, lexicon.GENDERED_GROUPS, row.language))
    return yes_no(row, gendered and any(bar in content for bar in BARS))


def yes_no(row: Row, answer: bool) -> str:
    return {"en": ("No", "Yes"), "zh": ("否", "是")}[row.language][answer]


def hashtags(row: Row) -> object:
    found = {subtopic.hashtag.of(row.language) for subtopic in subtopics(row, "title", "content")}
    hit = [candidate for candidate in row.fields["candidates"] if candidate in found]
    assert len(hit) == len(found)
    return hit if row.task == "hashtag_multiple" else hit[0]


def names(row: Row) -> object:
    kind = next(kind for kind in lexicon.ENTITY_TYPES if kind.of(row.language) == row.fields["entity_type"])
    found = named(row.fields["content"], lexicon.NAMES_BY_TYPE[kind], row.language)
    return sorted((name.of(row.language) for name in found), key=row.fields["content"].index)


def highlights(row: Row) -> object:
    found = {item.of(row.language) for item in items(row, "comment")}
    return [candidate for candidate in row.fields["candidates"] if candidate in found]


def relevance(row: Row) -> object:
    (asked,) = items(row, "query")
    told = items(row, "note")
    if any(sign in row.fields["note"] for sign in SELLS):
        return -1
    if asked in told:
        return 3
    wanted, (found,) = lexicon.SUBTOPIC_OF[asked], {lexicon.SUBTOPIC_OF[item] for item in told}
    return 2 if found == wanted else 1 if found.topic == wanted.topic else 0


def retrieval(row: Row) -> object:
    (asked,) = items(row, "query")
    (hit,) = [i for i, note in enumerate(row.fields["notes"]) if asked in named(note, lexicon.ITEMS, row.language)]
    return "ABC"[hit]


RULES: dict[str, Callable[[Row], object]] = {
    "note_taxonomy_single": taxonomy,
    "query_classification": categories,
    "note_security": security,
    "gender_sensitive_appeal": appeal,
    "hashtag_single": hashtags,
    "hashtag_multiple": hashtags,
    "note_ner": names,
    "highlight_words": highlights,
    "query_note_relevance": relevance,
    "query_note_retrieval": retrieval,
}


@pytest.mark.parametrize("task", RULES)
def test_the_answer_follows_from_the_text_shown(written: Written, task: str) -> None:
    for split in SPLITS:
        for row in written.rows[split]:
            if row.task == task:
                assert RULES[task](row) == row.answer, row


def test_sums_and_their_steps_are_right(written: Written) -> None:
    rows = [row for split in SPLITS for row in written.rows[split] if row.task == "arithmetic"]
    for row in rows + written.general:
        expression = "".join(mark for mark in row.fields["question"] if mark in "0123456789+-")
        assert eval(expression) == int(row.answer)
        assert row.rationale is not None
        steps = row.rationale.replace("，", ",").split(",")
        assert steps[-1].split("=")[1].strip() == row.answer
        for step in steps:
            left, right = step.split("=")
            assert eval(left) == int(right)


def test_words_translate_one_to_one_and_none_hides_in_another() -> None:
    names = (*lexicon.BRANDS, *lexicon.PLACES, *lexicon.PEOPLE)
    words = (*lexicon.ITEMS, *lexicon.ADJECTIVES, *lexicon.TIMES, *names, *lexicon.GENDERED_GROUPS)
    words = (*words, *lexicon.PLAIN_GROUPS)
    assert len(lexicon.ITEMS) == 60 and len(lexicon.TOPICS) == 10
    assert len({word.en for word in words}) == len({word.zh for word in words}) == len(words)
    for word in words:
        assert not [other for other in words if other != word and word.zh in other.zh], word
    for name in names:
        assert not [word for word in words if word != name and name.en in word.en], name


def test_both_languages_of_a_text_are_in_one_split() -> None:
    text = Text("This  serum is NICE.", "这个精华很不错。")
    assert split_of(text) == split_of(Text("this serum is nice.", "x"))
    assert normalised("Ａ  b\n") == "a b"
