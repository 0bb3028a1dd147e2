"""Choices of experts in the rollout, replayed in training; and the comparison layer by layer where passes part."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from megatron_redone.checkpoint.config import CheckpointConfig
from megatron_redone.common.errors import ConfigError, InputError, RedoneError, TrainingError
from megatron_redone.config.loading import validate
from megatron_redone.data.chat_template import ChatTemplate
from megatron_redone.data.document import Document
from megatron_redone.generation.base import Completion, SamplingParams
from megatron_redone.generation.megatron_engine import MegatronGenerator
from megatron_redone.models.config import ModelShape
from megatron_redone.models.expert_choices import expert_signals
from megatron_redone.models.presets import PRESETS
from megatron_redone.parallel.context import ParallelContext
from megatron_redone.rl.config import DAPOConfig
from megatron_redone.rl.dapo import dapo
from megatron_redone.rl.layer_comparison import Comparison, LayerGap, compare_layers
from megatron_redone.rl.recorded_generator import RecordedGenerator
from megatron_redone.rl.rollout import Group, Response
from megatron_redone.rl.router_replay import check_replayable, replay_names, replay_signals
from megatron_redone.training.batches import balanced_microbatches
from megatron_redone.training.document_logprobs import document_logprobs
from megatron_redone.training.engine import MegatronEngine
from megatron_redone.training.run import TrainingRun
from megatron_redone.verification.layout import SpreadWeights
from tests.scripted_generation import sum_row, sums_template

MOE, DENSE = PRESETS["qwen3-moe-tiny"], PRESETS["qwen3-tiny"]
PROMPTS = [[5, 6, 7, 8, 9], [11, 12], [21, 22, 23, 24]]
PARAMS = SamplingParams(6, num_samples=2, stop_ids=(24, 65, 175), seed=1, record_experts=True)


class Shifted(SpreadWeights):
    """Weights whose routers are moved a little, as rounding moves them."""

    def __getitem__(self, name: str) -> Tensor:
        weight = super().__getitem__(name)
        if not name.endswith("mlp.gate.weight"):
            return weight
        noise = torch.randn(weight.shape, generator=torch.Generator().manual_seed(len(name)))
        return weight + 0.3 * weight.std() * noise


def engine_with(shape: ModelShape, context: ParallelContext, weights: Any = None) -> MegatronEngine:
    engine = MegatronEngine(shape, context)
    engine.load_hf_weights(weights or SpreadWeights(shape, 3), "test")
    return engine


@pytest.fixture(scope="module")
def sampling(parallel_context: ParallelContext) -> MegatronEngine:
    return engine_with(MOE, parallel_context)


@pytest.fixture(scope="module")
def answers(sampling: MegatronEngine, parallel_context: ParallelContext) -> list[list[Completion]]:
    return MegatronGenerator(sampling.model, parallel_context).generate(PROMPTS, PARAMS, ["a", "b", "c"])


def experts_of(one: Completion) -> npt.NDArray[np.int16]:
    assert one.experts is not None
    return one.experts


def documents_of(answers: Sequence[Sequence[Completion]], *, replay: bool) -> list[Document]:
    found = []
    for prompt, samples in zip(PROMPTS, answers, strict=True):
        for one in samples:
            mask = [0.0] * len(prompt) + [1.0] * len(one.token_ids)
            signals = replay_signals(one, len(prompt)) if replay else {}
            found.append(Document([*prompt, *one.token_ids], mask, "one", signals))
    return found


def gap(documents: Sequence[Document], answers: Sequence[Sequence[Completion]], engine: MegatronEngine) -> float:
    trained = document_logprobs(documents, 512, engine)
    flat = [one for samples in answers for one in samples]
    pairs = [
        (a, b)
        for values, one in zip(trained, flat, strict=True)
        for a, b in zip(values[-len(one.token_ids) :], one.logprobs, strict=True)
    ]
    return float(np.mean([abs(a - b) for a, b in pairs]))


def test_every_token_that_was_read_has_its_experts(answers: list[list[Completion]]) -> None:
    for prompt, samples in zip(PROMPTS, answers, strict=True):
        for one in samples:
            assert one.experts is not None
            assert one.experts.shape == (len(prompt) + len(one.token_ids) - 1, MOE.num_layers, MOE.experts_per_token)
            assert one.experts.min() >= 0
            assert one.experts.max() < MOE.num_experts
            assert np.array_equal(one.experts[: len(prompt)], experts_of(samples[0])[: len(prompt)])
    assert len({len(one.token_ids) for samples in answers for one in samples}) > 1  # some left the batch early


def test_recording_changes_no_answer(
    sampling: MegatronEngine, answers: list[list[Completion]], parallel_context: ParallelContext
) -> None:
    plain = SamplingParams(6, num_samples=2, stop_ids=PARAMS.stop_ids, seed=1)
    again = MegatronGenerator(sampling.model, parallel_context).generate(PROMPTS, plain, ["a", "b", "c"])
    assert again == answers
    assert all(one.experts is None for samples in again for one in samples)


def test_the_same_weights_choose_what_was_recorded(sampling: MegatronEngine, answers: list[list[Completion]]) -> None:
    sampling.take_choices_changed()
    assert gap(documents_of(answers, replay=True), answers, sampling) < 1e-5
    assert sampling.take_choices_changed() == 0.0
    wrong = [
        Completion(o.token_ids, o.logprobs, o.finish_reason, 0, (experts_of(o) + 1) % 8) for s in answers for o in s
    ]
    pairs = [wrong[place : place + 2] for place in range(0, len(wrong), 2)]
    assert gap(documents_of(pairs, replay=True), answers, sampling) > 0.01  # what is replayed is what counts
    assert sampling.take_choices_changed() > 0.5


def test_replay_closes_the_gap_that_other_choices_open(
    answers: list[list[Completion]], parallel_context: ParallelContext
) -> None:
    trainer = engine_with(MOE, parallel_context, Shifted(MOE, 3))
    without = gap(documents_of(answers, replay=False), answers, trainer)
    trainer.take_choices_changed()
    replayed = gap(documents_of(answers, replay=True), answers, trainer)
    assert trainer.take_choices_changed() > 0.02
    assert replayed < 0.7 * without
    assert gap(documents_of(answers, replay=False), answers, trainer) == pytest.approx(without)  # nothing stays behind


def test_packing_and_padding_change_nothing(sampling: MegatronEngine, answers: list[list[Completion]]) -> None:
    documents = documents_of(answers, replay=True)
    whole = document_logprobs(documents, 512, sampling)
    assert document_logprobs(documents, 12, sampling) == [pytest.approx(values, abs=1e-5) for values in whole]
    batches, _ = balanced_microbatches(documents, 512, sampling, replay_names(sampling))
    longer = sampling.logprobs([batches[0].padded_to(batches[0].num_tokens + 7)])[0]
    assert torch.allclose(longer, torch.nn.functional.pad(sampling.logprobs(batches)[0], (0, 7)), atol=1e-5)


def test_choices_must_be_those_of_the_document() -> None:
    assert expert_signals(np.array([[[1, 4]], [[0, 2]]], dtype=np.int16), 3) == {
        "experts/001/0": [0, 2, 1],
        "experts/001/1": [0, 5, 3],
    }
    with pytest.raises(ValueError, match=r"choices for 1 tokens of a document of 3"):
        expert_signals(np.zeros((1, 1, 2), dtype=np.int16), 3)


def test_recorded_rollouts_keep_their_experts(
    tmp_path: Path, answers: list[list[Completion]], parallel_context: ParallelContext
) -> None:
    engine: Any = SimpleNamespace(generate=lambda prompts, params, keys: answers)
    RecordedGenerator(engine, tmp_path, parallel_context).generate(PROMPTS, PARAMS, ["a", "b", "c"])
    recorded = RecordedGenerator(None, tmp_path, parallel_context)  # type: ignore[arg-type]
    found = recorded.generate(PROMPTS, PARAMS, ["a", "b", "c"])
    assert found == answers
    for one, other in zip((o for s in found for o in s), (o for s in answers for o in s), strict=True):
        assert np.array_equal(experts_of(one), experts_of(other))


def test_what_cannot_replay_is_refused(
    sampling: MegatronEngine, answers: list[list[Completion]], parallel_context: ParallelContext
) -> None:
    with pytest.raises(ConfigError, match=r"router_replay=true with generation.engine=vllm"):
        settings(generation={"engine": "vllm", "max_new_tokens": 6, "max_prompt_tokens": 200})
    with pytest.raises(ConfigError, match=r"agreement.without_replay=true compares with router_replay"):
        settings(router_replay=False, agreement={"without_replay": True})
    dense: Any = SimpleNamespace(shape=DENSE, context=parallel_context)
    with pytest.raises(InputError, match=r"a model without experts"):
        check_replayable(dense)
    layout = SimpleNamespace(recompute="full", pp=2)
    with pytest.raises(InputError, match=r"recompute=full and parallel.pp=2"):
        check_replayable(SimpleNamespace(shape=MOE, context=SimpleNamespace(config=layout)))  # type: ignore[arg-type]
    check_replayable(sampling)
    with pytest.raises(RedoneError, match=r"without the experts of its tokens"):
        replay_signals(Completion((1,), (-1.0,), "stop"), 2)
    with pytest.raises(InputError, match=r"a model without experts"):
        MegatronGenerator(SimpleNamespace(shape=DENSE), parallel_context).generate(  # type: ignore[arg-type]
            PROMPTS, PARAMS, ["a", "b", "c"]
        )


# the loop


def settings(**changes: Any) -> DAPOConfig:
    base: dict[str, Any] = {
        "num_rollouts": 2, "prompts_per_rollout": 2, "responses_per_prompt": 2, "minibatch_prompts": 1,
        "max_tokens_per_microbatch": 512, "dynamic_sampling": False, "warmup_rollouts": 0, "router_replay": True,
        "agreement": {"without_replay": True}, "overlong": {"buffer_tokens": 6, "factor": 0.5},
        "optimizer": {"lr": 1e-3}, "generation": {"max_new_tokens": 6, "max_prompt_tokens": 200},
    }  # fmt: skip
    return validate(DAPOConfig, {**base, **changes}, "test")


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> ChatTemplate:
    return sums_template(tmp_path_factory.mktemp("tokenizer"))


def trained(
    folder: Path, shape: ModelShape, template: ChatTemplate, context: ParallelContext, config: DAPOConfig, change: Any
) -> list[dict[str, float]]:
    """Metrics of a run; `change` makes the generator from the engine."""
    shape = shape.model_copy(update={"vocab_size": template.tokenizer.vocab_size})
    engine = MegatronEngine(shape, context, config.optimizer)
    engine.load_hf_weights(SpreadWeights(shape, 3), "test")
    run = TrainingRun(folder, "explore", 3, context, CheckpointConfig(every=9, in_background=False))
    dapo(config, [sum_row(number) for number in range(4)], template, engine, change(engine), run)
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def in_process(engine: MegatronEngine) -> MegatronGenerator:
    return MegatronGenerator(engine.model, engine.context)


def test_the_loop_measures_what_replay_buys(
    tmp_path: Path, template: ChatTemplate, parallel_context: ParallelContext
) -> None:
    found = trained(tmp_path, MOE, template, parallel_context, settings(), in_process)
    for row in found:
        assert row["rollout_logprob_gap_max"] < 1e-4
        assert row["rollout_logprob_gap_max_without_replay"] < 1e-4  # fp32: both passes choose alike
        assert row["router_choices_changed"] == 0.0
        assert row["clip_share_first_update"] == 0.0


# layer by layer


class WithOtherWeights(MegatronGenerator):
    """An engine that was never given the trainer's weights."""

    def __init__(self, trainer: MegatronEngine) -> None:
        other = engine_with(trainer.shape, trainer.context, SpreadWeights(trainer.shape, 4))
        super().__init__(other.model, trainer.context)

    def update_weights(self, stream: Iterable[tuple[str, Any]], version: int) -> None: ...


def test_a_generator_with_other_weights_is_told_from_a_broken_cache(
    tmp_path: Path, template: ChatTemplate, parallel_context: ParallelContext
) -> None:
    plain = settings(router_replay=False, agreement={"max_mean": 1e-3})
    with pytest.raises(TrainingError, match=r"(?s)agreement.max_mean=0.001.*  layer   2  .*its weights, precision or"):
        trained(tmp_path, DENSE, template, parallel_context, plain, WithOtherWeights)
    report = json.loads((tmp_path / "agreement.json").read_text())
    assert report["reported_gap"] > 1e-3
    assert report["cached_gap"] < 1e-4
    assert [layer["layer"] for layer in report["layers"]] == list(range(1, DENSE.num_layers + 1))
    assert max(layer["hidden"] for layer in report["layers"]) < 1e-4


def test_the_layer_at_which_the_passes_part_is_named(sampling: MegatronEngine, answers: list[list[Completion]]) -> None:
    config = settings(router_replay=False, agreement={})
    group = Group(sum_row(1), PROMPTS[0], [Response(answers[0][0], "", 0.0, True, 0.0)])
    clean = compare_layers(group, group.responses[0], sampling, config)
    assert max(layer.hidden for layer in clean.layers) < 1e-4
    assert [layer.experts_changed for layer in clean.layers] == [0.0] * MOE.num_layers
    assert clean.first_parted() is None

    def fault(layer: Any, inputs: Any, output: Any) -> Any:
        return (output[0] * 1.5, *output[1:]) if output[0].size(0) == 1 else None  # passes of one token: decoding

    layers: dict[int, Any] = {
        m.layer_number: m  # type: ignore[misc]
        for m in sampling.model.modules()
        if type(m).__name__ == "TransformerLayer"
    }
    hook = layers[2].register_forward_hook(fault)
    try:
        broken = compare_layers(group, group.responses[0], sampling, config)
    finally:
        hook.remove()
    parted = broken.first_parted()
    assert parted is not None
    assert parted.layer == 2
    assert parted.token >= len(PROMPTS[0])
    assert parted.hidden == pytest.approx(0.5, rel=1e-3)
    assert "part at layer 2" in broken.advice("megatron")


def test_advice_follows_the_numbers() -> None:
    even = tuple(LayerGap(layer, 1e-4 * layer, 3) for layer in (1, 2, 3))
    assert "grows evenly" in Comparison("r", 2, 3, 0.1, 0.1, even).advice("megatron")
    jump = (LayerGap(1, 1e-6, 3, 0.0), LayerGap(2, 0.2, 4, 0.5))
    assert "50% of its tokens went to other experts" in Comparison("r", 2, 3, 0.1, 0.1, jump).advice("megatron")
    assert "no layers" in "\n".join(Comparison("r", 2, 3, 0.1, 0.1, ()).lines())
