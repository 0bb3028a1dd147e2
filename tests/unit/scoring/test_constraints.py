from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from megatron_redone.common.errors import DataError
from megatron_redone.scoring.constraint_checks import CHECKS
from megatron_redone.scoring.constraints import Constraint, KeptConstraints, constraint_of, constraint_problems
from megatron_redone.scoring.ifeval_constraints import ifeval_constraints

# kind, settings, a text that keeps it, a text that breaks it
CASES: list[tuple[str, dict[str, Any], str, str]] = [
    ("words", {"minimum": 2, "maximum": 3}, "dry wool socks", "socks"),
    ("words", {"maximum": 3}, "干袜子", "三双干袜子"),
    ("sentences", {"minimum": 2, "maximum": 2}, "It costs 3.5 coins. Fine!", "One. Two. Three."),
    ("sentences", {"minimum": 2}, "你好。再见！", "你好，再见"),
    ("sentences", {"maximum": 2, "splitter": "punkt"}, "Dr. Lee saw\nthe U.S. coast. Fine!", "One. Two. Three."),
    ("paragraphs", {"count": 2}, "one\n\ntwo", "one\ntwo"),
    ("paragraphs", {"count": 2, "separator": "stars"}, "one\n***\ntwo", "one\n\ntwo"),
    ("paragraph_opening", {"count": 2, "paragraph": 2, "word": "sea"}, "One.\n\nSea, sea!", "One.\n\nSeaside."),
    ("paragraph_opening", {"count": 1, "paragraph": 1, "word": "海"}, "海很大。", "大海。"),
    ("lines", {"count": 2}, "a\n\nb", "a"),
    ("words_per_line", {"maximum": 2}, "a b\nc", "a b c\nd"),
    ("distinct_lines", {}, "a\nb", "a\nb\nA."),
    ("keywords", {"expressions": ["art", "C++"]}, "Art in c++.", "a party in C++"),
    ("keywords", {"expressions": ["袜子"]}, "带干袜子", "带干帽子"),
    ("keywords", {"expressions": ["art"], "inside_words": True}, "a party", "a sock"),
    ("forbidden", {"expressions": ["art"]}, "a party", "the art of socks"),
    ("keyword_count", {"expression": "sea", "minimum": 2}, "Sea and sea", "sea and seaside"),
    ("letter_count", {"letter": "s", "maximum": 2}, "Sets", "socks stink"),
    ("language", {"code": "en"}, "dry socks", "干袜子"),
    ("language", {"code": "zh"}, "干袜子", "dry socks"),
    ("language", {"code": "de"}, "Die Socken sind noch nicht trocken", "The socks are not dry yet"),
    ("bullets", {"count": 2}, "List:\n- a\n* b", "- a\n**bold**"),
    ("sections", {"marker": "DAY", "count": 2}, "DAY 1 sea DAY 2 land", "DAY one"),
    ("highlights", {"minimum": 2}, "*dry* and **warm**", "*dry"),
    ("title", {}, "<<Socks>> they dry", "<Socks>"),
    ("placeholders", {"minimum": 2}, "[name] of [town]", "[name]"),
    ("postscript", {"marker": "P.S."}, "Bye.\nP. S. bring socks", "Bye. PS bring socks"),
    ("json_only", {}, '```json\n{"a": [1]}\n```', "{'a': 1}"),
    ("no_comma", {}, "dry socks", "干，袜子"),
    ("starts_with", {"expression": "Dry socks"}, " dry socks first", "socks dry"),
    ("ends_with", {"expression": "the end."}, 'It is "The end."', "the end. no"),
    ("quoted", {}, '"dry socks"', 'dry "socks"'),
    ("quoted", {"straight": True}, '"dry socks"', "“dry socks”"),
    ("upper_case", {}, "DRY SOCKS 2", "Dry SOCKS"),
    ("lower_case", {}, "dry socks 2", "Dry socks"),
    ("capital_words", {"minimum": 1, "maximum": 1}, "DRY socks", "DRY SOCKS"),
    ("one_of", {"expressions": ["yes", "no"]}, "Yes!", "yesterday"),
    ("one_of", {"expressions": ["yes"], "literal": True}, "yesterday", "Yes!"),
    ("two_responses", {}, "one\n******\ntwo", "one\n******\none"),
    ("emoji", {"minimum": 1, "maximum": 1}, "socks 🧦", "🧦🧦"),
    ("emoji", {"minimum": 3, "maximum": 3}, "👍🏽 👩\u200d👧 🇳🇴", "👍"),
    ("emoji", {"minimum": 1, "maximum": 1}, "❤\ufe0f", "©"),
    ("hashtags", {"minimum": 2}, "#dry #socks#", "# dry #socks"),
    ("no_speaker", {}, "Well, dry socks: those!", "Kim: socks"),
    ("not_quoting", {"texts": ["bring dry socks please"]}, "bring wool", "you said Bring dry socks please!"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "given_settings", "kept", "broken"), CASES)
def test_each_kind_tells_kept_from_broken(kind: str, given_settings: dict[str, Any], kept: str, broken: str) -> None:
    value = {"kind": kind, **given_settings}
    assert constraint_problems(value) == []
    assert constraint_of(value).problem(kept) == ""
    assert constraint_of(value).problem(broken) != ""


def test_every_kind_has_a_case() -> None:
    assert {kind for kind, *_ in CASES} == set(CHECKS)


@settings(max_examples=60)
@given(text=st.text(max_size=80), case=st.sampled_from(CASES))
def test_no_text_raises(text: str, case: tuple[str, dict[str, Any], str, str]) -> None:
    assert isinstance(constraint_of({"kind": case[0], **case[1]}).problem(text), str)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"kind": "word", "minimum": 1}, "did you mean 'words'"),
        ({}, "None is no kind of constraint"),
        ({"kind": "words"}, "has no bound"),
        ({"kind": "words", "minimum": 3, "maximum": 2}, "at least 3 and at most 2"),
        ({"kind": "words", "minimum": True}, "expected a whole number"),
        ({"kind": "words", "minimum": "3"}, "expected a whole number"),
        ({"kind": "words", "least": 3}, "has no setting 'least'; it has minimum, maximum"),
        ({"kind": "keywords"}, "lacks 'expressions'"),
        ({"kind": "keywords", "expressions": "socks"}, "expected a list of texts"),
        ({"kind": "keywords", "expressions": []}, "expected a list of texts"),
        ({"kind": "postscript", "marker": " "}, "expected a text that is not empty"),
        ({"kind": "language", "code": "xx"}, "expected one of"),
        ({"kind": "quoted", "straight": 1}, "expected true or false"),
        ({"kind": "paragraphs", "count": 2, "separator": "dots"}, "expected one of"),
        ({"kind": "paragraph_opening", "count": 2, "paragraph": 3, "word": "a"}, "names paragraph 3 of 2"),
    ],
)
def test_bad_constraints_are_named(value: dict[str, Any], message: str) -> None:
    assert message in "; ".join(constraint_problems(value))


def test_all_constraints_must_be_kept_and_both_figures_of_ifeval_follow() -> None:
    constraints = (Constraint("no_comma", {}), Constraint("words", {"maximum": 2}))
    scorer = KeptConstraints()
    scores = scorer.score(["dry socks", "dry, socks", None], [constraints] * 3)
    assert [score.value for score in scores] == [1.0, 0.0, 0.0]
    assert scores[1].reason == "a comma occurs" and scores[1].statistics["broken_no_comma"] == 1.0
    assert not scores[2].parsed
    assert scorer.aggregate(scores) == pytest.approx(1 / 3)
    assert scorer.instruction_level(scores) == pytest.approx(3 / 6)
    assert (scorer.aggregate([]), scorer.instruction_level([])) == (0.0, 0.0)


def test_ifeval_settings_become_constraints() -> None:
    ids = ["length_constraints:number_words", "keywords:frequency", "startend:quotation"]
    given_settings = [
        {"relation": "less than", "num_words": 10},
        {"relation": "at least", "keyword": "sea", "frequency": 2},
        {},
    ]
    assert ifeval_constraints(ids, given_settings) == [
        {"kind": "words", "maximum": 9},
        {"kind": "keyword_count", "expression": "sea", "inside_words": True, "minimum": 2},
        {"kind": "quoted", "straight": True},
    ]


@pytest.mark.parametrize(
    ("ids", "given_settings", "message"),
    [
        (["a:b"], [{}], "'a:b' is no instruction"),
        (["keywords:frequency"], [{"relation": "at least"}], "lacks the setting 'keyword'"),
        (["language:response_language"], [{"language": "xx"}], "'xx', expected one of"),
        (["startend:quotation"], [], "1 instructions with 0 settings"),
    ],
)
def test_what_ifeval_asks_and_no_check_has_is_refused(
    ids: list[str], given_settings: list[dict[str, Any]], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        ifeval_constraints(ids, given_settings)
