from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import sacrebleu
from hypothesis import given, strategies as st

from megatron_redone.scoring.text_metrics import (
    Anls,
    BleuChrf,
    anls,
    corpus_bleu,
    corpus_chrf,
    edit_distance,
    sentence_bleu,
    sentence_chrf,
)

ENGLISH = [
    ("The cake is soft and sweet.", "This cake is very soft and sweet!"),
    ("rainy day tea", "tea on a rainy day"),
    ("", "something"),
    ("same words here, all of them", "same words here, all of them"),
    ("completely different", "nothing shared at all by these"),
]
CHINESE = [
    ("这个蛋糕很软很甜。", "蛋糕又软又甜！"),
    ("雨天喝茶", "下雨天一起喝茶"),
    ("", "有内容"),
    ("今天去海边，风很大。", "今天去海边，风很大。"),
]
SHORT = st.text(alphabet="abc 你", max_size=12)


@pytest.mark.parametrize(("pair", "language"), [*((p, "en") for p in ENGLISH), *((p, "zh") for p in CHINESE)])
def test_bleu_and_chrf_are_those_of_sacrebleu(pair: tuple[str, str], language: str) -> None:
    hypothesis, reference = pair
    tokenizer = "zh" if language == "zh" else "13a"
    bleu = sacrebleu.sentence_bleu(hypothesis, [reference], use_effective_order=True, tokenize=tokenizer).score
    chrf = sacrebleu.sentence_chrf(hypothesis, [reference]).score
    assert sentence_bleu(hypothesis, reference, language) == pytest.approx(bleu / 100)
    assert sentence_chrf(hypothesis, reference) == pytest.approx(chrf / 100)
    score = BleuChrf(language).score([hypothesis], [reference])[0]
    assert score.value == pytest.approx((bleu + chrf) / 200)


@pytest.mark.parametrize(("pairs", "language"), [(ENGLISH, "en"), (CHINESE, "zh")])
def test_corpus_bleu_comes_out_of_the_item_statistics(pairs: list[tuple[str, str]], language: str) -> None:
    hypotheses, references = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    tokenizer = "zh" if language == "zh" else "13a"
    expected = sacrebleu.corpus_bleu(hypotheses, [references], tokenize=tokenizer).score
    scorer = BleuChrf(language)
    scores = scorer.score(hypotheses, references)
    assert scorer.corpus_bleu(scores) == pytest.approx(expected / 100)
    assert scorer.aggregate(scores) == pytest.approx(sum(score.value for score in scores) / len(scores))
    assert scorer.corpus_bleu([]) == 0.0


def test_an_unreadable_translation_counts_as_an_empty_one() -> None:
    unreadable, empty = BleuChrf("en").score([None, ""], ["two words", "two words"])
    assert unreadable.value == empty.value == 0.0
    assert not unreadable.parsed
    assert unreadable.statistics == empty.statistics


@given(st.text(min_size=1, max_size=30))
def test_a_translation_scores_1_against_itself_unless_it_has_no_token(text: str) -> None:
    score = BleuChrf("zh").score([text], [text])[0]
    assert 0.0 <= score.value <= 1.0
    if any(character.isalnum() for character in text):
        assert score.value == pytest.approx(1.0)


def _edit_distance_by_table(first: str, second: str) -> int:
    row = list(range(len(second) + 1))
    for i, a in enumerate(first, start=1):
        above = row
        row = [i]
        for j, b in enumerate(second, start=1):
            row.append(min(above[j] + 1, row[j - 1] + 1, above[j - 1] + (a != b)))
    return row[-1]


@given(SHORT, SHORT)
def test_edit_distance_equals_the_table_method(first: str, second: str) -> None:
    assert edit_distance(first, second) == _edit_distance_by_table(first, second)


@given(SHORT, SHORT)
def test_anls_is_bounded_symmetric_and_1_only_for_equal_texts(first: str, second: str) -> None:
    value = anls(first, second)
    assert 0.0 <= value <= 1.0
    assert value == anls(second, first)
    assert (value == 1.0) == (first == second)


def test_anls_scores_the_whole_line() -> None:
    close, unreadable = Anls().score(["tea shop", None], ["tea shops", "x"])
    assert close.value == pytest.approx(1 - 1 / 9)
    assert (unreadable.value, unreadable.parsed) == (0.0, False)
    assert Anls().aggregate([close, unreadable]) == pytest.approx((1 - 1 / 9) / 2)


def test_edit_distance_of_a_line_to_a_megabyte_is_quick() -> None:
    assert edit_distance("where to buy tea", "x" * 1_000_000) == 1_000_000


@pytest.mark.parametrize("language", ["en", "zh"])
def test_corpus_scores_are_those_of_the_command_line(language: str, tmp_path: Path) -> None:
    hypotheses = {"en": ["the cat sat on the mat", "a dog", ""], "zh": ["今天天气很好", "我喜欢猫", "狗"]}[language]
    references = {"en": ["the cat is on the mat", "a big dog ran", "x"], "zh": ["今天天气不错", "我爱猫", "一只狗"]}[
        language
    ]
    (tmp_path / "hypotheses").write_text("\n".join(hypotheses) + "\n", encoding="utf-8")
    (tmp_path / "references").write_text("\n".join(references) + "\n", encoding="utf-8")
    command = [sys.executable, "-m", "sacrebleu", "references", "-i", "hypotheses", "-m", "bleu", "chrf", "-w", "6"]
    if language == "zh":
        command += ["-tok", "zh"]
    for word_order in (0, 2):
        run = subprocess.run(
            [*command, "--chrf-word-order", str(word_order)], cwd=tmp_path, capture_output=True, text=True, check=True
        )
        bleu, chrf = json.loads(run.stdout)
        value, signature = corpus_bleu(hypotheses, references, language)
        assert 100 * value == pytest.approx(bleu["score"], abs=1e-6) and signature == bleu["signature"]
        value, signature = corpus_chrf(hypotheses, references, word_order)
        assert 100 * value == pytest.approx(chrf["score"], abs=1e-6) and signature == chrf["signature"]
