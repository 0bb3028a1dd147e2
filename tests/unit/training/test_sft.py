"""Which conversations a step of fine-tuning sees. The engine here only notes its batches."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from megatron_redone.common.errors import DataError
from megatron_redone.data.batch import PackedBatch
from megatron_redone.data.chat_template import ChatTemplate
from megatron_redone.training.config import SFTConfig
from megatron_redone.training.ledger import DataLedger
from megatron_redone.training.sft import Example, encode, sft
from tests.scripted_generation import sums_template


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> ChatTemplate:
    return sums_template(tmp_path_factory.mktemp("tokenizer"))


EXAMPLES = [
    Example(
        f"e{number}",
        [
            {"role": "user", "content": f"what is {number} + 1?"},
            {"role": "assistant", "content": "1" * (1 + number % 7)},
        ],
    )
    for number in range(23)
]


class NotingEngine:
    """One data-parallel replica that trains nothing."""

    def __init__(self, rank: int = 0, replicas: int = 1) -> None:
        self.context = SimpleNamespace(dp=SimpleNamespace(rank=rank, size=replicas), tp=SimpleNamespace(size=1))
        self.row_multiple = 1
        self.batches: list[list[PackedBatch]] = []

    def train_step(self, batches: list[PackedBatch], objective: object, rate: float) -> dict[str, float]:
        self.batches.append(batches)
        return {"loss": 0.0, "rate": rate}


class Run:
    """A training run that begins at `start`, as after a resume."""

    def __init__(self, seed: int = 0, start: int = 0) -> None:
        self.seed, self.start, self.trained_tokens = seed, start, 0
        self.ledger = DataLedger()
        self.note_samples = self.ledger.add

    def steps(self, engine: object, num_steps: int, step: Callable[[int], Mapping[str, float]], **_: Any) -> None:
        for number in range(self.start, num_steps):
            step(number)


def config(**settings: Any) -> SFTConfig:
    base = {"sequence_length": 120, "global_batch_size": 3, "optimizer": {"lr": 1.0}}
    return SFTConfig(**{**base, **settings})


def train(
    template: ChatTemplate, engine: NotingEngine, run: Run | None = None, **settings: Any
) -> tuple[list[list[list[str]]], dict[str, int]]:
    """The ids of the conversations in each packed row of each step, and the counts."""
    texts = {tuple(encode(example, template).token_ids): example.id for example in EXAMPLES}
    counts = sft(config(**settings), EXAMPLES, template, engine, run or Run())  # type: ignore[arg-type]
    rows = []
    for batches in engine.batches:
        step = []
        for batch in batches:
            borders = batch.cu_seqlens.tolist()
            pieces = [tuple(batch.tokens[a:b].tolist()) for a, b in itertools.pairwise(borders)]
            step.append([texts[piece] for piece in pieces if piece in texts])
        rows.append(step)
    return rows, counts


def test_every_conversation_comes_once_an_epoch_in_a_new_order(template: ChatTemplate) -> None:
    steps, counts = train(template, NotingEngine(), epochs=3)
    rows = [row for step in steps for row in step]
    per_epoch = counts["rows_per_epoch"]
    assert counts["packed"] == 23 and len(rows) >= 3 * per_epoch - 3
    epochs = [rows[start : start + per_epoch] for start in range(0, 2 * per_epoch, per_epoch)]
    for epoch in epochs:
        assert Counter(id for row in epoch for id in row) == Counter(example.id for example in EXAMPLES)
    assert epochs[0] != epochs[1]


def test_only_answers_and_their_ends_are_learnt(template: ChatTemplate) -> None:
    engine = NotingEngine()
    train(template, engine, steps=4)
    answers = {(*template.answer_ids(e.messages[-1]["content"]), template.end_id) for e in EXAMPLES}
    for batch in (batch for batches in engine.batches for batch in batches):
        learnt = batch.labels[batch.loss_weights > 0].tolist()
        found: list[int] = []
        for token in learnt:
            found.append(token)
            if token == template.end_id:
                assert tuple(found) in answers
                found = []
        assert found == [] and set(batch.loss_weights.tolist()) == {0.0, 1.0}


def test_replicas_share_the_rows_of_one_process(template: ChatTemplate) -> None:
    whole, _ = train(template, NotingEngine(), steps=5)
    parts = [train(template, NotingEngine(rank, 2), steps=5)[0] for rank in range(2)]
    for step, rows in enumerate(whole):
        shares = [part[step] for part in parts]
        assert len(shares[0]) == len(shares[1]) == 2  # three rows do not go round: a filler stands in
        both = [row for share in shares for row in share if row]
        assert sorted(both) == sorted(rows)


def test_a_resume_sees_the_rows_it_would_have_seen(template: ChatTemplate) -> None:
    whole, _ = train(template, NotingEngine(), steps=9)
    rest, _ = train(template, NotingEngine(), Run(start=6), steps=9)
    assert rest == whole[6:]
    other, _ = train(template, NotingEngine(), Run(seed=1), steps=9)
    assert other != whole


def test_too_long_conversations_are_left_out_or_cut_and_counted(template: ChatTemplate, tmp_path: Path) -> None:
    longest = max(len(encode(example, template)) for example in EXAMPLES)
    limit = longest - 1
    too_long = sum(len(encode(example, template)) > limit for example in EXAMPLES)
    steps, counts = train(template, NotingEngine(), epochs=1, sequence_length=limit, global_batch_size=1)
    assert counts["dropped_too_long"] == too_long and counts["packed"] == 23 - too_long
    assert Counter(id for step in steps for row in step for id in row).total() == 23 - too_long
    cut = train(template, NotingEngine(), epochs=1, sequence_length=limit, too_long="truncate")[1]
    assert (cut["truncated"], cut["packed"]) == (too_long, 23)
    with pytest.raises(DataError, match="all 23 conversations are longer than sequence_length=8"):
        train(template, NotingEngine(), epochs=1, sequence_length=8)


def test_the_compute_is_counted_without_fillers(template: ChatTemplate) -> None:
    totals = []
    for replicas in (1, 2):
        run = Run()
        train(template, NotingEngine(0, replicas), run, steps=5)
        totals.append(run.trained_tokens)
    assert totals[0] == totals[1] > 0


def test_the_ledger_is_that_of_the_samples_whatever_the_replicas(template: ChatTemplate) -> None:
    def chain(rank: int, replicas: int, **settings: Any) -> str:
        run = Run()
        train(template, NotingEngine(rank, replicas), run, **settings)
        return run.ledger.chain

    whole = chain(0, 1, steps=9)
    assert {chain(rank, replicas, steps=9) for replicas in (2, 3) for rank in range(replicas)} == {whole}
    assert chain(0, 1, steps=8) != whole
    epoch = Run()
    counts = train(template, NotingEngine(), epoch, epochs=1, global_batch_size=1)[1]
    assert epoch.ledger.num_samples == counts["packed"] == len(EXAMPLES)
