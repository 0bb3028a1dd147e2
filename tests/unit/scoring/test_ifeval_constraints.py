"""Each of IFEval's 25 instructions on answers made by hand; the verdicts are those of the published checker."""

from __future__ import annotations

from typing import Any

import pytest

from megatron_redone.scoring.constraints import constraint_of
from megatron_redone.scoring.english import treebank_words
from megatron_redone.scoring.ifeval_constraints import _CONSTRAINTS, ifeval_constraints

# instruction, settings, answers that keep it, answers that do not
CASES: list[tuple[str, dict[str, Any], list[str], list[str]]] = [
    ("punctuation:no_comma", {}, ["dry; warm"], ["dry, warm"]),
    (
        "length_constraints:number_words",
        {"relation": "at least", "num_words": 3},
        ["don't go", "well-known sea", "3.5 km"],
        ["dry socks", "- !"],
    ),
    (
        "length_constraints:number_sentences",
        {"relation": "less than", "num_sentences": 3},
        ["Mr. Kim met Dr. Lee in the U.S. yesterday. Fine.", "- one\n- two\n- three\n- four", "It cost 3.5 coins."],
        ["One. Two. Three.", "Is it? It is! Oh."],
    ),
    (
        "length_constraints:number_paragraphs",
        {"num_paragraphs": 2},
        ["one\n***\ntwo", "***\none *** two\n***"],
        ["one\n\ntwo", "one\n***\n***\ntwo", "one"],
    ),
    (
        "length_constraints:nth_paragraph_first_word",
        {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "sea"},
        ["One.\n\nSea, sea!", 'One.\n\n"Sea\'s up"'],
        ["One.\n\nSeaside.", "Sea.\n\nOne.", "One.\n\n\n\nSea.", "One.\nSea."],
    ),
    (
        "detectable_format:number_highlighted_sections",
        {"num_highlights": 2},
        ["*dry* **warm**", "*a* *b*"],
        ["**dry**", "* * ** **", "*dry\nwarm*"],
    ),
    ("detectable_format:title", {}, ["<<Dry socks>> they are", "<<a <b>> c"], ["<Socks>", "<< >>", "<<dry\nsocks>>"]),
    (
        "detectable_format:json_format",
        {},
        ['{"a": 1}', '```JSON\n{"a": [1]}\n```', "``` 7 ```"],
        ["{'a': 1}", 'Here: {"a": 1}'],
    ),
    (
        "detectable_format:multiple_sections",
        {"section_spliter": "Day", "num_sections": 2},
        ["Day 1\nsea\nDay2 land", "Day 1 Day 2 Day 3"],
        ["day 1 day 2", "Day one Day two", "Day  1 Day  2"],
    ),
    (
        "detectable_format:number_bullet_lists",
        {"num_bullets": 2},
        ["* a\n  - b", "-a\n*b", "List:\n\n- a\n- b"],
        ["* a", "• a\n• b", "* a\n**b**", "* a\n- b\n---"],
    ),
    (
        "detectable_format:constrained_response",
        {},
        ["My answer is yes.", "So: My answer is maybe. Sorry"],
        ["My answer is no", "my answer is yes."],
    ),
    ("detectable_content:number_placeholders", {"num_placeholders": 2}, ["[a] [b c]", "[] [a]"], ["[a]", "[a\nb] [c]"]),
    (
        "detectable_content:postscript",
        {"postscript_marker": "P.S."},
        ["Bye.\nP.S. socks", "Bye. p. s. socks"],
        ["PS socks", "P.S socks"],
    ),
    ("keywords:existence", {"keywords": ["art", "sea"]}, ["a party by the SEA"], ["art", "ar t sea"]),
    ("keywords:forbidden_words", {"forbidden_words": ["art"]}, ["a party", "art_2"], ["Art.", "the art-house"]),
    (
        "keywords:frequency",
        {"relation": "at least", "keyword": "sea", "frequency": 2},
        ["Sea and seaside", "seasea"],
        ["sea", "se a se a"],
    ),
    (
        "keywords:letter_frequency",
        {"let_relation": "less than", "letter": "S", "let_frequency": 2},
        ["sock", "dry"],
        ["Socks", "SS"],
    ),
    (
        "change_case:capital_word_frequency",
        {"capital_relation": "at least", "capital_frequency": 2},
        ["COVID-19 and NASA", "I'M dry", "A, B"],
        ["NaN OK", "AC/DC", "iOS"],
    ),
    ("change_case:english_capital", {}, ["THE SOCKS ARE DRY, ALL 2 OF THEM."], ["THE SOCKS ARE dRY.", "2 + 2"]),
    ("change_case:english_lowercase", {}, ["the socks are dry, all 2 of them."], ["The socks are dry.", "2 + 2"]),
    (
        "combination:repeat_prompt",
        {"prompt_to_repeat": "Say Dry.\nTwice"},
        [" say dry.\nTwice: dry dry"],
        ["say dry. Twice: dry", "dry"],
    ),
    (
        "combination:two_responses",
        {},
        ["one******two", "******\none\n******\ntwo******"],
        ["one******one", "one******two******three", "one************two", "one"],
    ),
    (
        "startend:end_checker",
        {"end_phrase": "The end."},
        ["It is THE END.", '"It is the end."'],
        ["The end. No", "the end"],
    ),
    ("startend:quotation", {}, ['"dry socks"', '""', ' "a" and "b" '], ["“dry socks”", 'dry "socks"', '"']),
    (
        "language:response_language",
        {"language": "de"},
        ["Die Socken sind heute noch nicht trocken."],
        ["The socks are not dry today."],
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "given", "kept", "broken"), CASES, ids=lambda value: value if type(value) is str else ""
)
def test_each_instruction(name: str, given: dict[str, Any], kept: list[str], broken: list[str]) -> None:
    (value,) = ifeval_constraints([name], [given])
    check = constraint_of(value)
    assert {text: check.problem(text) for text in kept} == dict.fromkeys(kept, "")
    assert [text for text in broken if not check.problem(text)] == []


def test_all_25_instructions_have_a_case() -> None:
    assert {name for name, *_ in CASES} == set(_CONSTRAINTS) and len(_CONSTRAINTS) == 25


WORDS = (
    "I'M 'TIS CAN'T A.I. U.S. (OK) AC/DC X_Y 3D COVID-19, IT'S! \"NO\" GO--ON “SO” WE'LL: DON'T 1,000 A;B *BIG* a.b. "
    "E,F C:D"
)


def test_capital_words_are_those_of_nltk() -> None:
    nltk = pytest.importorskip("nltk", reason="nltk is not installed")
    theirs = nltk.tokenize.NLTKWordTokenizer().tokenize(WORDS)
    capitals = [word for word in treebank_words(WORDS) if word.isupper()]
    assert sorted(capitals) == sorted(word for word in theirs if word.isupper())
    assert len(capitals) > 15
