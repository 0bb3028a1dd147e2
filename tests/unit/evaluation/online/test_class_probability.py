"""The score of a language model, against the log-probabilities of each label taken one by one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from megatron_redone.data.batch import PackedBatch
from megatron_redone.data.document import Document
from megatron_redone.data.tokenizer import train_sentencepiece
from megatron_redone.evaluation.online.class_probability import ClassProbability
from megatron_redone.models.presets import get_preset
from megatron_redone.parallel.context import ParallelContext
from megatron_redone.tasks.base import Row
from megatron_redone.tasks.catalogue import get_task
from tests.unit.curation.filter.texts import clean_texts
from tools.make_tiny_checkpoint import write_tiny_checkpoint


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    tokenizer = train_sentencepiece(clean_texts(200), folder / "tokenizer", 600, 0)
    shape = get_preset("qwen2.5-tiny").model_copy(update={"vocab_size": tokenizer.vocab_size})
    write_tiny_checkpoint(shape, folder / "hub")
    tokenizer.save(folder / "hub")
    return folder / "hub"


def test_the_score_is_the_softmax_over_the_labels(model_folder: Path, parallel_context: ParallelContext) -> None:
    model = ClassProbability(model_folder)
    texts = [(text, language) for text in clean_texts(5, "notes") for language in ("en", "zh")]
    scores = list(model.scores(texts))
    assert len(scores) == 10 and all(0 < score < 1 for score in scores)
    assert [next(model.scores([text])) for text in texts] == pytest.approx(scores, abs=1e-5)
    text, language = texts[0]
    task = get_task("note_security")
    row = Row("r", "note_security", language, {"title": "", "content": text}, "")
    prompt, totals = model.template.prompt_ids(task.render(row)), []
    labels = ["Political Sensitivity", "Pornography", "No Violation", "Illegal or Policy Violations"]
    for label in labels:
        answer = [*model.template.answer_ids(label), model.template.end_id]
        mask = [0.0] * len(prompt) + [1.0] * len(answer)
        (row_of,) = model.engine.logprobs([PackedBatch.from_documents([Document([*prompt, *answer], mask, label)], 1)])
        totals.append(float(row_of.double().sum()))
    shares = np.exp(np.array(totals) - max(totals))
    assert scores[0] == pytest.approx(1 - shares[2] / shares.sum(), abs=1e-5)
