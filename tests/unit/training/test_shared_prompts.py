"""A prompt that stands in a row once gives what it gives when every answer repeats it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings, strategies as st

from megatron_redone.data.batch import PackedBatch
from megatron_redone.data.document import Document
from megatron_redone.data.shared_prompts import MIN_SHARED_TOKENS, prompt_groups, tokens_with_shared_prompt
from megatron_redone.models.build import pack_sequence
from megatron_redone.objectives.base import Objective
from megatron_redone.objectives.dapo import DAPO
from megatron_redone.objectives.dpo import DPO
from megatron_redone.parallel.context import ParallelContext
from megatron_redone.training.batches import balanced_microbatches, may_share_prompts, paired_microbatches
from megatron_redone.training.config import OptimizerConfig
from megatron_redone.training.document_logprobs import document_logprobs
from megatron_redone.training.engine import MegatronEngine, labelled_tokens
from megatron_redone.verification.layout import SpreadWeights
from tests.distributed.layout_cases import EPSILON, SIGNALS, answers, shape_of

NAMES = ("advantages", "old_logprobs", "reference_logprobs")


def answer(prompt: Sequence[int], ids: Sequence[int], name: str) -> Document:
    length = len(prompt) + len(ids)
    signals = {
        signal: torch.randn(length, generator=torch.Generator().manual_seed(length + place)).tolist()
        for place, signal in enumerate(NAMES)
    }
    return Document([*prompt, *ids], [0.0] * len(prompt) + [1.0] * len(ids), name, signals)


def engine_of(name: str, context: ParallelContext, **optimizer: Any) -> MegatronEngine:
    shape = shape_of(name)
    engine = MegatronEngine(shape, context, OptimizerConfig(lr=1e-2, epsilon=EPSILON, **optimizer))
    engine.load_hf_weights(SpreadWeights(shape, 3), "test weights")
    return engine


@st.composite
def groups(draw: st.DrawFn) -> list[Document]:
    found = []
    for number in range(draw(st.integers(1, 4))):
        prompt = [100 + number, *draw(st.lists(st.integers(1, 9), min_size=1, max_size=40))]
        for member in range(draw(st.integers(1, 3))):
            ids = draw(st.lists(st.integers(1, 9), min_size=0, max_size=6))
            found.append(answer(prompt, ids, f"{number}-{member}"))
    return draw(st.permutations(found))


@settings(max_examples=60)
@given(rows=groups(), multiple=st.integers(1, 8))
def test_every_document_can_be_read_from_the_row(rows: list[Document], multiple: int) -> None:
    batch = PackedBatch.from_documents(rows, pad_to_multiple_of=multiple, share_prompts=True)
    alone = [PackedBatch.from_documents([row]) for row in rows]
    assert batch.sample_ids == [row.sample_id for row in rows]
    assert batch.num_document_tokens == sum(map(len, rows))
    assert batch.num_real_tokens == sum(
        tokens_with_shared_prompt([rows[index] for index in group]) for group in prompt_groups(rows)
    )
    for place, single in enumerate(alone):
        assert batch.of_document(batch.tokens, place).tolist() == single.tokens.tolist()
        assert batch.of_document(batch.positions, place).tolist() == single.positions.tolist()
        assert batch.of_document(batch.loss_weights, place).tolist() == single.loss_weights.tolist()
        learnt = single.loss_weights > 0
        for name, values in {"labels": single.labels, **single.signals}.items():
            mine = batch.labels if name == "labels" else batch.signals[name]
            assert torch.equal(batch.of_document(mine, place)[learnt], values[learnt]), name
    documents = [index for index, row in enumerate(rows) for _ in range(int(sum(row.loss_mask)))]
    assert labelled_tokens(batch).document_N.tolist() == documents


def test_what_is_shared() -> None:
    long, short = list(range(1, MIN_SHARED_TOKENS + 2)), list(range(1, MIN_SHARED_TOKENS + 1))
    rows = [answer(long, [5], "a"), answer(short, [5], "b"), answer(long, [6, 7], "c"), answer(short, [6], "d")]
    rows.append(answer([*long[:-1], 99], [5], "e"))  # parts from `a` at the last token only, which is not shared
    assert prompt_groups(rows) == [[0, 2, 4], [1], [3]]
    batch = PackedBatch.from_documents(rows, share_prompts=True)
    assert batch.parents == [-1, 0, -1, 0, -1, 0]
    assert batch.segment_of == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("lengths", [(20, 5), (90, 70)], ids=["matrix products", "torch's attention"])
@pytest.mark.parametrize("objective", [DAPO(), DAPO(normalisation="sequence_mean"), DPO()], ids=lambda o: str(o)[:40])
def test_loss_and_step_are_the_same(
    objective: Objective, lengths: tuple[int, int], parallel_context: ParallelContext
) -> None:
    generator = torch.Generator().manual_seed(5)
    pairs = []
    for number in range(3):
        prompt = torch.randint(0, 200, (lengths[0] + number,), generator=generator).tolist()
        ids = torch.randint(0, 200, (2, lengths[1] + 3), generator=generator).tolist()
        both = [answer(prompt, ids[0], f"{number}-0"), answer(prompt, ids[1][3:], f"{number}-1")]
        pairs.append((both[0], both[1]))
    found: dict[bool, tuple[float, dict[str, torch.Tensor]]] = {}
    tokens = {}
    for share in (False, True):
        engine = engine_of("qwen3-tiny", parallel_context)
        batches = paired_microbatches(pairs, 400, engine, NAMES, share)
        tokens[share] = sum(batch.num_real_tokens for batch in batches)
        loss = engine.train_step(batches, objective, 1e-2)["loss"]
        found[share] = loss, {name: tensor.clone() for name, tensor in engine.export_hf_weights()}
    assert tokens[False] - tokens[True] == sum(lengths[0] + number - 1 for number in range(3))
    assert found[True][0] == pytest.approx(found[False][0], rel=2e-6)
    for name, tensor in found[False][1].items():
        torch.testing.assert_close(found[True][1][name], tensor, atol=2e-6, rtol=0, msg=name)


def test_log_probabilities_are_the_same_and_no_answer_sees_another(parallel_context: ParallelContext) -> None:
    engine = engine_of("qwen3-tiny", parallel_context)
    rows = answers(engine.model.shape.vocab_size)
    plain = document_logprobs(rows, 400, engine)
    for limit in (400, 36):  # all of a group in one row, and cut into parts
        for mine, expected in zip(document_logprobs(rows, limit, engine, share_prompts=True), plain, strict=True):
            assert mine == pytest.approx(expected, abs=2e-6)
    first = rows[0]
    other = Document([*first.token_ids[:-2], 1, 2], first.loss_mask, "other", first.signals)
    changed = document_logprobs([other, *rows[1:]], 400, engine, share_prompts=True)
    assert changed[0] != pytest.approx(plain[0], abs=1e-3)
    for mine, expected in zip(changed[1:], plain[1:], strict=True):
        assert mine == pytest.approx(expected, abs=2e-6)


def test_parts_of_a_group_fit_the_row(parallel_context: ParallelContext) -> None:
    engine = engine_of("qwen3-tiny", parallel_context)
    rows = answers(engine.model.shape.vocab_size)
    batches, indices = balanced_microbatches(rows, 36, engine, SIGNALS, share_prompts=True)
    assert sorted(index for members in indices for index in members) == list(range(len(rows)))
    assert all(batch.num_real_tokens <= 36 for batch in batches)
    assert sum(parent >= 0 for batch in batches for parent in batch.parents) == 4  # the third of each does not fit


@pytest.mark.parametrize(
    ("name", "optimizer", "signals", "may"),
    [
        ("qwen3-tiny", {}, SIGNALS, True),
        ("qwen3-tiny", {}, (*SIGNALS, "experts/0"), False),
        ("qwen3-moe-tiny", {}, SIGNALS, True),
        ("qwen3-moe-tiny", {"router_aux_loss": 1e-3}, SIGNALS, False),
        ("qwen3-moe-tiny", {"router_z_loss": 1e-3}, SIGNALS, False),
    ],
)
def test_where_prompts_may_be_shared(
    name: str, optimizer: dict[str, float], signals: tuple[str, ...], may: bool, parallel_context: ParallelContext
) -> None:
    assert may_share_prompts(engine_of(name, parallel_context, **optimizer), signals) is may


def test_a_row_that_is_split_takes_no_parents(parallel_context: ParallelContext) -> None:
    engine = engine_of("qwen3-tiny", parallel_context)
    axis = replace(engine.context.cp, size=2)
    with pytest.raises(ValueError, match=r"split over cp=2; do not share prompts"):
        pack_sequence(
            torch.tensor([0, 4, 8], dtype=torch.int32), torch.arange(8), engine.model.config, 1e4, torch.float32, axis,
            [-1, 0],
        )  # fmt: skip
