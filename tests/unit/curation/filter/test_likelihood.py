from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from megatron_redone.curation.filter.config import FilterConfig, LanguageModelConfig
from megatron_redone.curation.filter.likelihood import LikelihoodModel, bounds, likelihood_problem
from megatron_redone.curation.filter.run import filter_corpus
from megatron_redone.data.tokenizer import train_sentencepiece
from megatron_redone.models.presets import get_preset
from megatron_redone.parallel.context import ParallelContext
from megatron_redone.reporting.filter_page import FilterResult
from megatron_redone.reporting.schema import read_result
from tests.unit.curation.filter.texts import clean_texts, read_texts, write_documents
from tools.make_tiny_checkpoint import write_tiny_checkpoint


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    tokenizer = train_sentencepiece(clean_texts(200), folder / "tokenizer", 600, 0)
    shape = get_preset("qwen2.5-tiny").model_copy(update={"vocab_size": tokenizer.vocab_size})
    write_tiny_checkpoint(shape, folder / "hub")
    tokenizer.save(folder / "hub")
    return folder / "hub"


def model(folder: Path, **settings: object) -> LikelihoodModel:
    return LikelihoodModel(folder, LanguageModelConfig.model_validate({"model": "./m", **settings}))


def test_scores_do_not_depend_on_batches_and_come_in_order(
    model_folder: Path, parallel_context: ParallelContext
) -> None:
    texts = clean_texts(9, "scores")
    alone = model(model_folder, max_tokens=64, tokens_per_batch=66)
    together = model(model_folder, max_tokens=64, tokens_per_batch=400)
    scores = list(together.mean_logprobs(texts))
    assert scores == pytest.approx([next(alone.mean_logprobs([text])) for text in texts], abs=1e-5)
    assert len(set(scores)) == 9
    assert all(score < 0 for score in scores)


def test_the_mean_is_that_of_the_tokens_log_probabilities(
    model_folder: Path, parallel_context: ParallelContext
) -> None:
    import torch

    from megatron_redone.data.batch import PackedBatch
    from megatron_redone.data.document import Document

    found = model(model_folder, max_tokens=12, tokens_per_batch=64, min_tokens=1)
    (text,) = clean_texts(1)
    ids = found.tokenizer.encode(text)[:12]
    whole = 0.0
    for end in range(1, 13):  # one token at a time, each scored by itself
        document = Document([found.tokenizer.eos_id, *ids[:end]], [0.0] * end + [1.0], "one")
        (row,) = found.engine.logprobs([PackedBatch.from_documents([document], found.engine.row_multiple)])
        whole += float(torch.sum(row))
    assert next(found.mean_logprobs([text])) == pytest.approx(whole / 12, abs=1e-4)


def test_short_texts_are_not_judged(model_folder: Path, parallel_context: ParallelContext) -> None:
    scores = list(model(model_folder, min_tokens=8).mean_logprobs(["a", "", clean_texts(1)[0]]))
    assert [math.isnan(score) for score in scores] == [True, True, False]
    assert likelihood_problem(scores[0], -1.0, None) is None


def test_the_percentile_is_taken_by_language() -> None:
    scores = np.array([*range(-100, 0), *range(-1100, -1000), np.nan], np.float32)
    config = LanguageModelConfig(model="./m", percentile=10.0)
    found = bounds(scores, ["en"] * 100 + ["zh"] * 101, config)
    assert sum(likelihood_problem(s, *found["en"]) is not None for s in scores[:100]) == 10
    assert sum(likelihood_problem(s, *found["zh"]) is not None for s in scores[100:200]) == 10
    assert found["*"] == (None, None)


def test_absolute_bounds_have_their_reasons() -> None:
    config = LanguageModelConfig(model="./m", percentile=None, min_logprob=-5.0, max_logprob=-1.0)
    lower, upper = bounds(np.zeros(0, np.float32), [], config)["*"]
    problems = [likelihood_problem(score, lower, upper) for score in (-6.0, -3.0, -0.5)]
    assert [problem and problem[0] for problem in problems] == ["incoherent", None, "too_predictable"]


def test_the_least_likely_of_each_language_are_dropped_by_a_run(
    model_folder: Path, parallel_context: ParallelContext, tmp_path: Path
) -> None:
    texts = clean_texts(20, "run")
    path = write_documents(tmp_path / "in/n.jsonl", [(f"d{i}", text) for i, text in enumerate(texts)])
    config = FilterConfig.model_validate({"language_model": {"model": "./m", "percentile": 20.0, "max_tokens": 64}})
    (tmp_path / "out").mkdir()
    done = filter_corpus(config, [path], tmp_path / "out", 1, 0.1, model=model_folder)
    assert done.counts["dropped/incoherent"] == 4
    scores = list(model(model_folder, max_tokens=64).mean_logprobs(texts))
    least = {f"d{i}" for part in (range(0, 20, 2), range(1, 20, 2)) for i in sorted(part, key=scores.__getitem__)[:2]}
    assert set(read_texts(tmp_path / "out")) == {f"d{i}" for i in range(20)} - least
    result = read_result(tmp_path / "out/filter.json", FilterResult)
    assert {language: sum(n for _, n in h.dropped) for language, h in result.likelihoods.items()} == {"en": 2, "zh": 2}
