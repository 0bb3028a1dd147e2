"""Our engine behind the model interface of NeMo-Aligner's trainer.

The main rank speaks with the trainer's process; what it asks is broadcast, and every rank does its part, so the engine
may have any layout.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from megatron_redone.common.errors import TrainingError
from megatron_redone.data.batch import PackedBatch
from megatron_redone.data.document import Document
from megatron_redone.nemo_aligner.conversation import Conversation
from megatron_redone.nemo_aligner.process import NemoAlignerProcess
from megatron_redone.nemo_aligner.wire import Array, Message
from megatron_redone.objectives.given_gradient import GivenGradient
from megatron_redone.training.batches import balanced_microbatches
from megatron_redone.training.engine import MegatronEngine

NO_LABEL = -100


@dataclass(frozen=True)
class PreparedPair:
    """A pair as the native trainer sees it: two documents with the log-probabilities of the reference model."""

    chosen: Document
    rejected: Document


class PreparedPairs(Protocol):
    """Prepared pairs by id."""

    def __getitem__(self, name: str, /) -> PreparedPair:
        """One pair."""
        ...


class EngineService:
    """Answers the trainer's questions about log-probabilities, gradients and updates.

    Args:
        process: None on ranks other than the main one.
        pairs: by id; signal `reference_logprobs` of each document.
        encode: text to token ids.
        max_tokens: of a micro-batch.
    """

    def __init__(
        self,
        engine: MegatronEngine,
        process: NemoAlignerProcess | None,
        pairs: PreparedPairs,
        encode: Callable[[str], Sequence[int]],
        max_tokens: int,
    ) -> None:
        self.engine, self.pairs, self.encode = engine, pairs, encode
        self._talk = Conversation(engine.context, process)
        self.max_tokens = max_tokens
        self._batches: list[PackedBatch] = []
        self._metrics: dict[str, float] = {}
        self.sample_ids: list[str] = []
        """Pairs of the global batch whose gradients were accumulated last."""
        self.num_tokens = 0
        """Their tokens."""

    def until_update(self) -> dict[str, float]:
        """Answers until the trainer has taken one optimizer step; NeMo-Aligner's metrics and the engine's.

        Raises:
            TrainingError: the trainer ended first, or asked for what no pair has.
        """
        while True:
            message = self._talk.next()
            if message.kind == "finished":
                raise TrainingError(
                    f"NeMo-Aligner's trainer finished after step {message.values['step']}, before the steps that were "
                    "asked for; compare trainer.dpo.max_steps and max_epochs with the stage's settings"
                )
            if message.kind == "update":
                return self._update(float(message.values["learning_rate"]))
            self._answer(message)

    def _answer(self, message: Message) -> None:
        if message.kind == "encode":
            self._talk.reply("ids", {}, {"ids": np.asarray(self.encode(message.values["text"]), dtype=np.int64)})
        elif message.kind == "reference_logprobs":
            self._talk.reply("logprobs", {}, {"logprobs": self._reference(message)})
        elif message.kind == "policy_logprobs":
            self._talk.reply("logprobs", {}, {"logprobs": self._policy(message)})
        elif message.kind == "accumulate":
            self._accumulate(message)
            self._talk.reply("accumulated")
        elif message.kind not in ("saved", "metrics"):
            raise TrainingError(f"NeMo-Aligner's trainer asked for {message.kind!r}, which the engine does not know")

    def _documents(self, message: Message) -> list[Document]:
        """Chosen and then rejected documents of the batch, as ours; refused where the trainer read other tokens."""
        ids: list[str] = message.values["ids"]
        mine = [self.pairs[name].chosen for name in ids] + [self.pairs[name].rejected for name in ids]
        rows, lengths = message.arrays["tokens"], message.arrays["lengths"]
        for document, row, length in zip(mine, rows, lengths, strict=True):
            theirs = row[: int(length)].tolist()
            if theirs != list(document.token_ids[:-1]):
                place = next(
                    (i for i, pair in enumerate(zip(theirs, document.token_ids, strict=False)) if len(set(pair)) > 1),
                    len(theirs),
                )
                raise TrainingError(
                    f"pair {document.sample_id}: NeMo-Aligner's data set reads other tokens than the native trainer "
                    f"from place {place} of {len(document) - 1}; its prompt must be the rendered chat"
                )
        return mine

    def _reference(self, message: Message) -> Array:
        rows = [document.signals["reference_logprobs"][1:] for document in self._documents(message)]
        return _padded(rows, message.arrays["tokens"].shape)

    def _policy(self, message: Message) -> Array:
        documents = [replace(document, signals={}) for document in self._documents(message)]
        batches, indices = balanced_microbatches(documents, self.max_tokens, self.engine)
        mine: dict[int, list[float]] = {}
        for row, members in zip(self.engine.logprobs(batches), indices, strict=True):
            values, start = row.tolist(), 0
            for index in members:
                mine[index] = values[start : start + len(documents[index]) - 1]
                start += len(documents[index])
        for part in self.engine.context.gather_objects(mine, self.engine.context.dp):
            mine.update(part)
        return _padded([mine[index] for index in range(len(documents))], message.arrays["tokens"].shape)

    def _accumulate(self, message: Message) -> None:
        documents = self._documents(message)
        labels = sum(sum(weight != 0 for weight in document.loss_mask[1:]) for document in documents)
        scaled = message.arrays["gradient"].astype(np.float64) * labels
        with_gradient = [
            replace(document, signals={"gradient": [0.0, *scaled[row, : len(document) - 1].tolist()]})
            for row, document in enumerate(documents)
        ]
        self._batches, _ = balanced_microbatches(with_gradient, self.max_tokens, self.engine, ("gradient",))
        self._metrics = dict(message.values["metrics"])
        self.sample_ids = list(message.values["ids"])
        self.num_tokens = sum(len(document) for document in documents)
        self.engine.accumulate_gradients(self._batches, GivenGradient())

    def _update(self, learning_rate: float) -> dict[str, float]:
        ended = self.engine.step_or_skip(self._metrics, self._batches, learning_rate)
        self._talk.reply("updated")
        return {**ended, "learning_rate": learning_rate}


def _padded(rows: Sequence[Sequence[float]], shape: tuple[int, ...]) -> npt.NDArray[Any]:
    """[rows, T] float32, zeros behind the end of each row."""
    result = np.zeros(shape, dtype=np.float32)
    for number, row in enumerate(rows):
        result[number, : len(row)] = row
    return result
