"""What the engine answers to a trainer, played here by a script that knows the messages."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from megatron_redone.common.errors import TrainingError
from megatron_redone.nemo_aligner.service import NO_LABEL, EngineService
from megatron_redone.nemo_aligner.wire import Array, Message
from megatron_redone.parallel.context import ParallelContext
from megatron_redone.training.batches import pack
from tests.unit.nemo_aligner.pairs import END, MadePairs, engine_of

IDS = ["pair-4", "pair-0", "pair-7"]


class Script:
    """Messages to the engine, in order; what it answers is kept."""

    def __init__(self, *messages: Message) -> None:
        self.messages, self.answers = deque(messages), []  # type: ignore[var-annotated]

    def receive(self) -> Message:
        return self.messages.popleft()

    def send(self, kind: str, values: Mapping[str, Any] = {}, arrays: Mapping[str, Array] = {}) -> None:
        self.answers.append(Message(kind, dict(values), dict(arrays)))


def batch_arrays(made: MadePairs) -> dict[str, Array]:
    """Tokens, labels and lengths of the pairs `IDS`, as NeMo-Aligner's data set cuts and pads them."""
    pairs = [made.prepared[name] for name in IDS]
    documents = [pair.chosen for pair in pairs] + [pair.rejected for pair in pairs]
    longest = max(len(document) for document in documents) + 2
    tokens = np.full((len(documents), longest), END)
    labels = np.full((len(documents), longest), NO_LABEL)
    for row, document in enumerate(documents):
        ids, answer = np.array(document.token_ids), np.array(document.loss_mask[1:]) > 0
        tokens[row, : len(ids) - 1] = ids[:-1]
        labels[row, : len(ids) - 1] = np.where(answer, ids[1:], NO_LABEL)
    return {"tokens": tokens, "labels": labels, "lengths": np.array([len(document) - 1 for document in documents])}


UPDATE = Message("update", {"learning_rate": 1e-2})


def test_logprobs_are_those_of_the_labels(parallel_context: ParallelContext) -> None:
    engine = engine_of(parallel_context)
    made = MadePairs(engine, 10)
    arrays = batch_arrays(made)
    asked = [Message(kind, {"ids": IDS}, arrays) for kind in ("reference_logprobs", "policy_logprobs")]
    gradient = np.zeros(arrays["tokens"].shape, dtype=np.float32)
    accumulate = Message("accumulate", {"ids": IDS, "metrics": {"loss": 1.0}}, {**arrays, "gradient": gradient})
    encode = Message("encode", {"text": "<prompt3>"})
    script = Script(encode, *asked, accumulate, UPDATE)
    service = EngineService(engine, script, made.prepared, made.texts.__getitem__, 64)  # type: ignore[arg-type]
    before = dict(engine.export_hf_weights())
    metrics = service.until_update()
    assert script.answers[0].arrays["ids"].tolist() == made.texts["<prompt3>"]
    reference, policy = (answer.arrays["logprobs"] for answer in script.answers[1:3])
    assert reference.shape == arrays["tokens"].shape
    np.testing.assert_allclose(policy, reference, atol=2e-5)  # the policy is still the reference
    assert ((reference != 0) == (arrays["labels"] != NO_LABEL)).all()
    assert service.sample_ids == IDS
    assert metrics["grad_norm"] == 0.0 and metrics["learning_rate"] == 1e-2
    assert all(name in before for name, _ in engine.export_hf_weights())


def test_the_gradient_moves_the_weights_as_it_says(parallel_context: ParallelContext) -> None:
    """Up along the chosen answers: their log-probabilities rise."""
    engine = engine_of(parallel_context)
    made = MadePairs(engine, 10)
    arrays = batch_arrays(made)
    chosen = np.arange(len(arrays["tokens"])) < len(IDS)
    gradient = -(chosen[:, None] & (arrays["labels"] != NO_LABEL)).astype(np.float32)
    accumulate = Message("accumulate", {"ids": IDS, "metrics": {"loss": 1.0}}, {**arrays, "gradient": gradient})
    script = Script(accumulate, UPDATE)
    service = EngineService(engine, script, made.prepared, made.texts.__getitem__, 64)  # type: ignore[arg-type]
    documents = [made.prepared[name].chosen for name in IDS]
    batch = pack(documents, engine)
    before = float(engine.logprobs([batch])[0].sum())
    metrics = service.until_update()
    assert metrics["grad_norm"] > 0.1
    assert float(engine.logprobs([batch])[0].sum()) > before + 0.1


def test_other_tokens_are_refused(parallel_context: ParallelContext) -> None:
    engine = engine_of(parallel_context)
    made = MadePairs(engine, 10)
    arrays = batch_arrays(made)
    arrays["tokens"][1, 2] += 1
    script = Script(Message("policy_logprobs", {"ids": IDS}, arrays))
    service = EngineService(engine, script, made.prepared, made.texts.__getitem__, 64)  # type: ignore[arg-type]
    with pytest.raises(TrainingError, match=r"pair pair-0: .* other tokens .* from place 2"):
        service.until_update()


@pytest.mark.parametrize(
    ("message", "problem"),
    [
        (Message("finished", {"step": 3}), r"finished after step 3"),
        (Message("delete_everything"), r"asked for 'delete_everything'"),
    ],
)
def test_an_unexpected_message_ends_the_run(message: Message, problem: str, parallel_context: ParallelContext) -> None:
    engine = engine_of(parallel_context)
    service = EngineService(engine, Script(message), {}, lambda text: [], 64)  # type: ignore[arg-type]
    with pytest.raises(TrainingError, match=problem):
        service.until_update()
