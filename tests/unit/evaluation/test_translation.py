"""Expected numbers were computed by the published code of RedTrans-Bench (its sentence BLEU and chrF) on these rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import sacrebleu

from megatron_redone.common.errors import DataError
from megatron_redone.evaluation.benchmark_data import read_benchmark
from megatron_redone.evaluation.benchmark_scoring import Answered, score_benchmark
from megatron_redone.evaluation.translation import FILE, sns_transbench

BENCHMARK = sns_transbench()


def row(zh: str, en: str, target: str, source: str = "comment") -> dict[str, str]:
    return {"zh": zh, "en": en, "source": source, "src_lang": "zh" if target == "en" else "en", "dst_lang": target}


ROWS = [
    row("这家店的奶茶真好喝", "The milk tea at this shop is really good", "en"),
    row("太可爱了吧😍", "So cute 😍", "en", "note-title"),
    row("今天天气真好，我们去公园吧", "The weather is so nice today, let's go to the park", "zh"),
    row("绝绝子", "Absolutely amazing", "zh", "note-title"),
    row("我想回家", "I want to go home", "zh"),
]
OUTPUTS = ["The milk tea in this shop tastes really good", "So cute 😍", "今天天气很好，我们去公园吧。", "绝了", ""]


def task_of(outputs: list[str], rows: list[dict[str, str]] = ROWS) -> dict[str, Any]:
    return score_benchmark(BENCHMARK, {FILE: Answered(rows, outputs)}, label="t", settings={})[0].tasks[FILE]


def test_values_are_those_of_the_published_code() -> None:
    found = task_of(OUTPUTS)
    expected = json.loads(Path(__file__).with_name("translation_case.json").read_text())
    for direction in ("zh-en", "en-zh"):
        assert found[f"{direction} bleu"] == pytest.approx(expected[direction]["bleu"], abs=1e-3)
        assert found[f"{direction} chrf2"] == pytest.approx(expected[direction]["chrf"], abs=1e-3)
    four = [expected[direction][name] for direction in ("zh-en", "en-zh") for name in ("bleu", "chrf")]
    assert found["score"] == pytest.approx(sum(four) / 4, abs=1e-3)


def test_directions_count_the_same_however_many_rows_they_have() -> None:
    perfect = [row_[row_["dst_lang"]] for row_ in ROWS]
    half = [text if row_["dst_lang"] == "en" else "" for text, row_ in zip(perfect, ROWS, strict=True)]
    assert task_of(perfect)["score"] == pytest.approx(100.0, abs=1e-3)
    assert task_of(half)["score"] == pytest.approx(50.0, abs=1e-3)


def test_chrf_with_words_corpus_bleu_and_kinds_of_source() -> None:
    found = task_of(OUTPUTS)
    english = [(OUTPUTS[0], ROWS[0]["en"]), (OUTPUTS[1], ROWS[1]["en"])]
    chrf = sacrebleu.CHRF(word_order=2)
    mean = sum(chrf.sentence_score(output, [gold]).score for output, gold in english) / 2
    assert found["zh-en chrf++"] == pytest.approx(mean, abs=1e-3)
    corpus = sacrebleu.BLEU(tokenize="zh").corpus_score(OUTPUTS[2:], [[row_["zh"] for row_ in ROWS[2:]]])
    assert found["en-zh corpus_bleu"] == pytest.approx(corpus.score, abs=1e-3)
    assert found["zh-en note-title bleu"] == pytest.approx(100.0)
    assert found["parse_rate"] == pytest.approx(0.8)
    signature = BENCHMARK.settings["signatures"]["corpus BLEU to zh"]
    assert "tok:zh" in signature and "nrefs:1" in signature and f"version:{sacrebleu.__version__}" in signature


def test_one_direction_alone_has_no_part_for_the_other() -> None:
    found = task_of(OUTPUTS[:2], ROWS[:2])
    assert found["score"] == pytest.approx((found["zh-en bleu"] + found["zh-en chrf2"]) / 2)
    assert not any(name.startswith("en-zh") for name in found)


def test_odd_outputs_are_scored() -> None:
    assert 0 <= task_of(["\0", "\ud800", " ", "\u202e好", "a" * 50_000])["score"] < 10


def test_rows_in_other_languages_are_refused(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text(json.dumps([{**ROWS[0], "src_lang": "fr"}, {**ROWS[0], "dst_lang": "zh"}]))
    with pytest.raises(DataError, match=r"(?s)index 0: src_lang and dst_lang are .*index 1"):
        read_benchmark(tmp_path, BENCHMARK)
