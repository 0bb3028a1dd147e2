from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from megatron_redone.curation.stats.labellers import KeywordLabeller, ModelLabeller, label_request, read_label
from megatron_redone.curation.stats.taxonomy import KEYWORDS, UNLABELLED, Category
from megatron_redone.data.conversation import Message
from megatron_redone.generation.complete import Completer
from megatron_redone.generation.config import GenerationConfig
from tests.scripted_generation import ScriptedGenerator, sums_template

WORDS = [word for words in KEYWORDS.values() for word in words]


def test_the_taxonomy_has_two_levels_in_two_languages_without_repeats() -> None:
    assert 8 <= len({category.area for category in KEYWORDS}) <= 12
    assert len({category.text for category in KEYWORDS}) == len(KEYWORDS) and UNLABELLED not in KEYWORDS
    for category, words in KEYWORDS.items():
        assert all(words) and len(set(words)) == len(words), category
        assert any(word.isascii() for word in words) and any(not word.isascii() for word in words), category
        assert all(word == word.lower() for word in words), category


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("Solve for x in the equation 2x = 4.", "mathematics / algebra"),
        ("Write three POEMS that rhyme.", "writing / stories and poems"),
        ("把下面的句子翻译成英文，译文要自然", "language / translation"),
        ("I feel so lonely and sad.", "feelings / support"),
        ("a carpet for the startled", "other / unlabelled"),  # no `pet`, `car`, `art`, `start` inside words
        ("", "other / unlabelled"),
        ("Write it in C++.", "programming / writing code"),
    ],
)
def test_keywords_name_the_category(text: str, label: str) -> None:
    assert [found.text for found in KeywordLabeller().label([text]) if found] == [label]


@given(st.lists(st.sampled_from(WORDS), max_size=8))
def test_labels_are_the_same_in_every_process_and_of_the_taxonomy(words: list[str]) -> None:
    text = "; ".join(words)
    first, again = KeywordLabeller().label([text, text]), KeywordLabeller().label([text])
    assert first == [again[0], again[0]]
    assert first[0] in KEYWORDS or (first[0] == UNLABELLED and not words)


def test_a_model_is_asked_with_the_list_and_its_answer_is_read() -> None:
    asked: list[Sequence[Message]] = []

    def complete(conversations: Sequence[Sequence[Message]]) -> list[str]:
        asked.extend(conversations)
        return ["Mathematics/Algebra", "<think>\nhm\n</think>\n\ndaily life / food.\n", "no idea", "<think> open"]

    labels = ModelLabeller(complete, "tiny").label(["a", "b", "c", "d" * 9000])
    assert labels == [Category("mathematics", "algebra"), Category("daily life", "food"), None, None]
    content = asked[0][0]["content"]
    assert all(category.text in content for category in KEYWORDS) and content.endswith("Text:\na")
    assert len(asked[3][0]["content"]) < 6000


def test_every_category_is_read_back() -> None:
    for category in [*KEYWORDS, UNLABELLED]:
        assert read_label(f" {category.text.upper()}\n") == category


def test_an_engine_completes_conversations_in_order(tmp_path: Path) -> None:
    template = sums_template(tmp_path)
    engine = ScriptedGenerator(template, lambda prompt, _: "9" if "long" in prompt else str(prompt.count("7")))
    talks: list[list[Message]] = [[{"role": "user", "content": text}] for text in ("7 7", "1", "long" * 200)]
    config = GenerationConfig(temperature=0.0, max_prompt_tokens=100)
    assert Completer(engine, template, config, 0)(talks) == ["2", "0", ""]
    kept = GenerationConfig(temperature=0.0, max_prompt_tokens=100, over_long="truncate")
    assert Completer(engine, template, kept, 0)(talks) == ["2", "0", "9"]
    assert label_request("x")[0]["role"] == "user"
