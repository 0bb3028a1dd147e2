"""P(harmful) of a note by a language model: how likely it finds each label of the task `note_security` as answer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from megatron_redone.data.chat_template import ChatTemplate
from megatron_redone.data.document import Document
from megatron_redone.tasks.base import Row
from megatron_redone.tasks.catalogue import get_task

TASK = "note_security"
HARMLESS = ("No Violation", "无违规")
"""The labels of the task that say that there is nothing to object to."""
NOTES_AT_ONCE = 8


class ClassProbability:
    """Scores by a model folder, through the engine's forward pass.

    score = 1 - softmax(s)[no violation]; s(label) is the sum of the log-probabilities of its tokens and the end token.

    Args:
        folder: Hugging Face folder of a family that we know, with its tokenizer.
        max_tokens: longer prompts lose their first tokens.
    """

    def __init__(self, folder: Path, max_tokens: int = 1024) -> None:
        from megatron_redone.parallel.config import ParallelConfig
        from megatron_redone.parallel.context import build_context
        from megatron_redone.training.model_folder import load_engine

        self.max_tokens = max_tokens
        self.engine, tokenizer = load_engine(folder, build_context(ParallelConfig(precision="fp32")))
        self.template = ChatTemplate(tokenizer)

    def scores(self, texts: Sequence[tuple[str, str]]) -> Iterator[float]:
        """One score in 0..1 a (text, language), in order."""
        for start in range(0, len(texts), NOTES_AT_ONCE):
            yield from self._batch(texts[start : start + NOTES_AT_ONCE])

    def _batch(self, texts: Sequence[tuple[str, str]]) -> list[float]:
        from megatron_redone.data.batch import PackedBatch

        task = get_task(TASK)
        documents: list[Document] = []
        labels_of: list[list[str]] = []
        for number, (text, language) in enumerate(texts):
            row = Row(str(number), TASK, language, {"title": "", "content": text}, "")
            assert task.options is not None
            (labels,) = task.options(row)
            prompt = self.template.prompt_ids(task.render(row))[-self.max_tokens :]
            labels_of.append(labels)
            for label in labels:
                answer = [*self.template.answer_ids(label), self.template.end_id]
                mask = [0.0] * len(prompt) + [1.0] * len(answer)
                documents.append(Document([*prompt, *answer], mask, f"{number} {label}"))
        batch = PackedBatch.from_documents(documents, self.engine.row_multiple)
        (logprobs,) = self.engine.logprobs([batch])
        ends = np.cumsum([len(document) for document in documents])
        totals = [
            float(logprobs[end - len(document) : end].double().sum())
            for end, document in zip(ends, documents, strict=True)
        ]
        found, place = [], 0
        for labels in labels_of:
            of_note = np.array(totals[place : place + len(labels)])
            shares = np.exp(of_note - of_note.max())
            harmless = sum(share for label, share in zip(labels, shares, strict=True) if label in HARMLESS)
            found.append(float(1 - harmless / shares.sum()))
            place += len(labels)
        return found
