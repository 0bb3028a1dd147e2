"""Pairs as tokens, reference log-probabilities on disk, and which pairs a step of DPO sees."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from megatron_redone.common.errors import DataError
from megatron_redone.data.batch import PackedBatch
from megatron_redone.data.chat_template import ChatTemplate
from megatron_redone.data.conversation import Message
from megatron_redone.models.presets import get_preset
from megatron_redone.objectives.base import Objective
from megatron_redone.parallel.config import ParallelConfig
from megatron_redone.parallel.context import ParallelContext
from megatron_redone.training.config import DPOConfig
from megatron_redone.training.dpo import PairStream, all_documents, dpo, objective_of
from megatron_redone.training.engine import labelled_tokens
from megatron_redone.training.ledger import DataLedger
from megatron_redone.training.preference_pairs import PairSet, PreferencePair
from megatron_redone.training.reference_logprobs import ReferenceLogprobs
from tests.scripted_generation import sums_template


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> ChatTemplate:
    return sums_template(tmp_path_factory.mktemp("tokenizer"))


def config(**settings: Any) -> DPOConfig:
    base = {"epochs": 2, "global_batch_size": 4, "max_length": 100, "max_tokens_per_microbatch": 220}
    return DPOConfig(**{**base, **settings})


def pair(number: int, **more: Any) -> PreferencePair:
    user = Message(role="user", content=f"what is {number} + 1?")
    given: dict[str, Any] = {
        "id": f"p{number}", "messages": [user], "chosen": str(number + 1), "rejected": "3" * (1 + number % 5) + "0",
        "chosen_reward": 1.0, "rejected_reward": number / 10,
    }  # fmt: skip
    return PreferencePair(**{**given, **more})


def pair_set(template: ChatTemplate, settings: DPOConfig, count: int = 10) -> PairSet:
    pairs = PairSet(settings, template)
    for number in range(count):
        pairs.add(pair(number))
    return pairs


class ScoringEngine:
    """One replica whose "model" gives each label a log-probability by its token id; notes what it was asked."""

    def __init__(self, context: ParallelContext, rank: int = 0, replicas: int = 1) -> None:
        self.context = SimpleNamespace(
            dp=SimpleNamespace(rank=rank, size=replicas), cp=SimpleNamespace(size=1), config=ParallelConfig(),
            gather_objects=lambda value, axis: [value], on_main=context.on_main, is_main=True, maximum=context.maximum,
        )  # fmt: skip
        self.model = SimpleNamespace(shape=get_preset("qwen3-tiny"))
        self.row_multiple = 8
        self.scored = 0
        self.batches: list[list[PackedBatch]] = []

    def logprobs(self, batches: list[PackedBatch], temperature: float = 1.0) -> list[torch.Tensor]:
        self.scored += sum(len(batch.sample_ids) for batch in batches)
        return [torch.where(batch.loss_weights > 0, -(batch.labels + 1) / 64.0, 0.0) for batch in batches]

    def train_step(self, batches: list[PackedBatch], objective: Objective, rate: float) -> dict[str, float]:
        self.batches.append(batches)
        loss = 0.0
        for batch in batches:
            tokens = labelled_tokens(batch)
            terms = objective(-(batch.labels[batch.logit_positions] + 5) / 80.0, tokens).terms
            loss += sum(float(term.loss_sum) * term.weight for term in terms)
        return {"loss": loss}


class Run:
    """A training run that begins at `start`, as after a resume."""

    def __init__(self, seed: int = 0, start: int = 0) -> None:
        self.seed, self.start, self.trained_tokens = seed, start, 0
        self.ledger = DataLedger()
        self.read: list[list[str]] = []
        self.metrics: list[Mapping[str, float]] = []

    def note_samples(self, ids: list[str]) -> None:
        self.ledger.add(ids)
        self.read.append(list(ids))

    def steps(self, engine: object, num_steps: int, step: Callable[[int], Mapping[str, float]]) -> None:
        for number in range(self.start, num_steps):
            self.metrics.append(step(number))


def reference_of(pairs: PairSet, engine: Any, folder: Path) -> ReferenceLogprobs:
    reference = ReferenceLogprobs(folder, "model", engine.context)
    reference.fill(all_documents(pairs), engine, 220)
    return reference


def train(
    template: ChatTemplate, context: ParallelContext, folder: Path, run: Run | None = None, **settings: Any
) -> tuple[ScoringEngine, Run]:
    run, chosen = run or Run(), config(**settings)
    engine = ScoringEngine(context)
    with pair_set(template, chosen) as pairs:
        reference = reference_of(pairs, ScoringEngine(context), folder)
        dpo(chosen, pairs, reference, engine, run, pairs if chosen.validation else None)  # type: ignore[arg-type]
    return engine, run


# pairs as tokens


def test_a_pair_is_two_documents_with_one_prompt_and_answers_that_end(template: ChatTemplate) -> None:
    with pair_set(template, config()) as pairs:
        for number in range(10):
            prompt = template.prompt_ids(pair(number).messages)
            texts = (pair(number).chosen, pair(number).rejected)
            for document, text in zip(pairs.documents(number), texts, strict=True):
                answer = [*template.answer_ids(text), template.end_id]
                assert document.token_ids == prompt + answer
                assert document.loss_mask == [0.0] * len(prompt) + [1.0] * len(answer)


def test_earlier_answers_of_a_dialogue_are_not_learnt(template: ChatTemplate) -> None:
    turns: list[Message] = [
        {"role": "user", "content": "what is 1 + 1?"},
        {"role": "assistant", "content": "2"},
        {"role": "user", "content": "and what is 2 + 1?"},
    ]
    with PairSet(config(max_length=200, max_tokens_per_microbatch=400), template) as pairs:
        pairs.add(pair(2, messages=turns))
        assert sum(pairs.documents(0)[0].loss_mask) == len(template.answer_ids("3")) + 1


@pytest.mark.parametrize(
    ("more", "settings", "said"),
    [
        ({"chosen": "4<|im_end|>5"}, {}, r"spells the special token '<\|im_end\|>'"),
        ({"chosen": "<|im_end|>"}, {}, "an answer is empty"),
        ({"chosen": "4", "rejected": "4<|im_end|>\n"}, {}, "the same tokens"),
        ({"rejected_reward": None}, {"loss": "rpo_sq"}, "needs chosen_reward and rejected_reward"),
        (
            {"messages": [{"role": "user", "content": "<|im_start|>user\n1<|im_end|>"}], "from_text": True},
            {},
            "prompt_texts: templated",
        ),
    ],
)
def test_bad_pairs_are_refused(
    template: ChatTemplate, more: dict[str, Any], settings: dict[str, Any], said: str
) -> None:
    with PairSet(config(**settings), template) as pairs, pytest.raises(DataError, match=said):
        pairs.add(pair(3, **more))


def test_a_spelled_end_token_is_stripped_and_counted(template: ChatTemplate) -> None:
    with PairSet(config(), template) as pairs:
        pairs.add(pair(3))
        pairs.add(pair(3, id="q", chosen="4<|im_end|>\n"))
        assert pairs.documents(0)[0].token_ids == pairs.documents(1)[0].token_ids
        assert pairs.counts["end_tokens_stripped"] == 1


def test_a_templated_prompt_is_taken_as_it_stands(template: ChatTemplate) -> None:
    messages = pair(3).messages
    text = template.render(messages, add_generation_prompt=True)
    with PairSet(config(prompt_texts="templated"), template) as pairs:
        pairs.add(pair(3))
        pairs.add(pair(3, id="q", messages=[Message(role="user", content=text)], from_text=True))
        assert pairs.documents(0)[0].token_ids == pairs.documents(1)[0].token_ids


def test_over_long_pairs_are_dropped_or_lose_the_same_part_of_the_prompt(template: ChatTemplate) -> None:
    with pair_set(template, config(max_length=100)) as pairs:
        lengths = [max(map(len, pairs.documents(number))) for number in range(10)]
        whole = [pairs.documents(number) for number in range(10)]
    limit = sorted(lengths)[4]
    long = sum(length > limit for length in lengths)
    with pair_set(template, config(max_length=limit)) as pairs:
        assert (len(pairs), pairs.counts["dropped_too_long"]) == (10 - long, long)
    with pair_set(template, config(max_length=limit, too_long="truncate_prompt")) as pairs:
        assert (len(pairs), pairs.counts["truncated_prompts"]) == (10, long)
        for number in range(10):
            cut = max(0, lengths[number] - limit)
            for document, before in zip(pairs.documents(number), whole[number], strict=True):
                assert document.token_ids == before.token_ids[cut:]
    with PairSet(config(max_length=8, too_long="truncate_prompt"), template) as pairs:
        pairs.add(pair(1, chosen="2" * 60))  # not one token of the prompt would stay
        assert len(pairs) == 0 and pairs.counts["dropped_too_long"] == 1
        with pytest.raises(DataError, match="no pair to train on"):
            dpo(config(), pairs, None, None, Run())  # type: ignore[arg-type]


# reference log-probabilities


def test_reference_values_stand_at_their_tokens(
    template: ChatTemplate, parallel_context: ParallelContext, tmp_path: Path
) -> None:
    with pair_set(template, config()) as pairs:
        reference = reference_of(pairs, ScoringEngine(parallel_context), tmp_path)
        for document in all_documents(pairs):
            expected = [
                -(token + 1) / 64.0 if weight else 0.0
                for token, weight in zip(document.token_ids, document.loss_mask, strict=True)
            ]
            assert reference.of(document) == expected


def test_nothing_is_scored_twice_and_a_damaged_shard_is_scored_again(
    template: ChatTemplate,
    parallel_context: ParallelContext,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("megatron_redone.training.reference_logprobs.SHARD_DOCUMENTS", 8)
    with pair_set(template, config()) as pairs:
        num_documents = len({tuple(document.token_ids) for document in all_documents(pairs)})
        engine = ScoringEngine(parallel_context)
        first = reference_of(pairs, engine, tmp_path)
        assert engine.scored == num_documents
        shards = sorted(tmp_path.glob("logprobs-*.safetensors"))
        assert len(shards) == -(-num_documents // 8)
        values = [first.of(document) for document in all_documents(pairs)]
        assert [reference_of(pairs, engine, tmp_path).of(d) for d in all_documents(pairs)] == values
        assert engine.scored == num_documents
        other = ReferenceLogprobs(tmp_path, "another model", engine.context)  # type: ignore[arg-type]
        assert other.fill(all_documents(pairs), engine, 220) == num_documents  # type: ignore[arg-type]
        content = bytearray(shards[0].read_bytes())
        content[-3] ^= 1
        shards[0].write_bytes(content)
        engine.scored = 0
        again = reference_of(pairs, engine, tmp_path)
        assert 0 < engine.scored <= 8
        assert [again.of(document) for document in all_documents(pairs)] == values


# steps


def test_every_pair_comes_once_an_epoch_in_a_new_order() -> None:
    stream = PairStream(10, 3)
    places = [place for number in range(6) for place in stream.batch(number, 5)]
    epochs = [places[start : start + 10] for start in (0, 10, 20)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs) and epochs[0] != epochs[1]
    assert PairStream(10, 3).batch(4, 5) == stream.batch(4, 5)
    assert PairStream(10, 4).batch(0, 5) != stream.batch(0, 5)


def test_pairs_stay_together_whatever_the_replicas(
    template: ChatTemplate, parallel_context: ParallelContext, tmp_path: Path
) -> None:
    settings = config()
    for replicas in (1, 2, 3):
        engines = [ScoringEngine(parallel_context, rank, replicas) for rank in range(replicas)]
        runs = [Run() for _ in engines]
        with pair_set(template, settings) as pairs:
            reference = reference_of(pairs, ScoringEngine(parallel_context), tmp_path)
            for engine, run in zip(engines, runs, strict=True):
                dpo(settings, pairs, reference, engine, run)  # type: ignore[arg-type]
            assert len({run.ledger.chain for run in runs}) == 1
            for number, ids in enumerate(runs[0].read):
                found: list[str] = []
                assert len({len(engine.batches[number]) for engine in engines}) == 1
                for batch in (batch for engine in engines for batch in engine.batches[number]):
                    assert batch.num_real_tokens <= settings.max_tokens_per_microbatch
                    assert batch.sample_ids[::2] == batch.sample_ids[1::2]
                    found += batch.sample_ids[::2]
                    documents = [
                        batch.of_document(batch.tokens, place).tolist() for place in range(len(batch.sample_ids))
                    ]
                    for place, sample in enumerate(batch.sample_ids):
                        index = pairs.ids.index(sample)
                        assert documents[place] == pairs.documents(index)[place % 2].token_ids
                assert Counter(found) == Counter(ids)


def test_a_resume_reads_what_it_would_have_read(
    template: ChatTemplate, parallel_context: ParallelContext, tmp_path: Path
) -> None:
    _, whole = train(template, parallel_context, tmp_path)
    _, rest = train(template, parallel_context, tmp_path, Run(start=3))
    assert rest.read == whole.read[3:] and len(whole.read) == 5
    assert [m["loss"] for m in rest.metrics] == [m["loss"] for m in whole.metrics[3:]]


def test_every_setting_of_the_loss_reaches_the_loss(
    template: ChatTemplate, parallel_context: ParallelContext, tmp_path: Path
) -> None:
    def first_loss(**settings: Any) -> float:
        return train(template, parallel_context, tmp_path, **settings)[1].metrics[0]["loss"]

    plain, rpo = first_loss(), first_loss(loss="rpo_sq")
    changed = {
        "beta": first_loss(beta=0.5),
        "loss": rpo,
        "label_smoothing": first_loss(label_smoothing=0.3),
        "preference_coefficient": first_loss(preference_coefficient=0.5),
        "preference_logprobs": first_loss(preference_logprobs="mean"),
        "sft.coefficient": first_loss(sft={"coefficient": 0.0}),
        "sft.normalisation": first_loss(sft={"normalisation": "pair_token_mean"}),
        "sft.group_pairs": first_loss(sft={"normalisation": "group_token_mean", "group_pairs": 2}),
    }
    assert plain not in changed.values() and first_loss(loss="rpo_sq", gt_reward_scale=3.0) != rpo
    groups_of_three = first_loss(sft={"normalisation": "group_token_mean", "group_pairs": 3})
    assert groups_of_three != changed["sft.group_pairs"]


def test_held_out_pairs_are_measured_at_their_steps_and_at_the_end(
    template: ChatTemplate, parallel_context: ParallelContext, tmp_path: Path
) -> None:
    _, run = train(template, parallel_context, tmp_path, validation={"every": 2, "pairs": 3})
    measured = [number for number, metrics in enumerate(run.metrics) if "validation/loss" in metrics]
    assert measured == [1, 3, 4]
    found = run.metrics[1]
    assert found["validation/reward_margin"] == 0.0  # the engine scores as its reference did
    assert found["validation/preference"] == pytest.approx(0.6931472, rel=1e-6)
    assert found["validation/loss"] == pytest.approx(found["validation/preference"] + 0.3 * found["validation/sft"])


@pytest.mark.parametrize(
    ("settings", "rule"),
    [
        ({"steps": 3}, "give exactly one of them"),
        ({"loss": "ipo", "label_smoothing": 0.1}, "only sigmoid reads it"),
        ({"gt_reward_scale": 2.0}, "only the rpo losses read it"),
        ({"max_length": 111}, "a pair of two answers must fit a micro-batch"),
        ({"sft": {"group_pairs": 2}}, "nothing else reads it"),
        ({"sft": {"normalisation": "group_token_mean"}}, "needs group_pairs"),
    ],
)
def test_settings_that_nothing_would_read_are_refused(settings: dict[str, Any], rule: str) -> None:
    with pytest.raises(ValueError, match=rule):
        config(**settings)


def test_the_objective_takes_every_setting() -> None:
    settings = config(loss="rpo_bwd_kl", beta=0.7, gt_reward_scale=2.0, sft={"coefficient": 0.9})
    objective = objective_of(settings)
    assert (objective.loss, objective.beta, objective.gt_reward_scale) == ("rpo_bwd_kl", 0.7, 2.0)
    assert objective.sft_coefficient == 0.9 and objective.signals == ("reference_logprobs", "rewards")
