"""Rollout servers as one engine: work is shared, lost servers are made up for, wrong ones are refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from megatron_redone.common.errors import CheckpointError, InputError, RedoneError
from megatron_redone.generation.base import Completion, SamplingParams
from megatron_redone.generation.config import ServersConfig
from megatron_redone.generation.remote_engine import RemoteEngine
from megatron_redone.generation.sampling import sequence_keys
from megatron_redone.models.presets import PRESETS
from megatron_redone.models.weights import RandomWeights
from megatron_redone.parallel.context import ParallelContext
from tests.fake_rollout_server import FakeRolloutServer

SHAPE = PRESETS["qwen3-tiny"]
WEIGHTS = RandomWeights(SHAPE, 0)
PROMPTS = [[1] * (n % 7 + 1) for n in range(20)]
KEYS = [f"prompt {n}" for n in range(20)]
PARAMS = SamplingParams(max_new_tokens=2, num_samples=2, seed=3)


@pytest.fixture
def fakes(tmp_path: Path) -> Iterator[list[FakeRolloutServer]]:
    servers = [FakeRolloutServer(SHAPE, tmp_path) for _ in range(2)]
    yield servers
    for server in servers:
        server.close()


def engine_of(
    fakes: list[FakeRolloutServer],
    context: ParallelContext,
    folder: Path | None,
    bound: float = 0.5,
    tokenizer: str = "",
) -> RemoteEngine:
    config = ServersConfig(
        urls=tuple(fake.url for fake in fakes),
        transfer_folder=folder,
        prompts_per_request=3,
        concurrency=2,
        connect_seconds=bound,
        request_seconds=10,
    )
    return RemoteEngine(config, SHAPE, context, tokenizer or None)


def check(found: list[list[Completion]], version: int) -> None:
    keys = sequence_keys(3, KEYS, 2).tolist()
    expected = [[(keys[2 * n + s] % 97, len(PROMPTS[n])) for s in range(2)] for n in range(20)]
    assert [[c.token_ids for c in group] for group in found] == expected
    assert {c.version for group in found for c in group} == {version}


def test_work_is_shared_and_answers_keep_their_order(
    fakes: list[FakeRolloutServer], parallel_context: ParallelContext, tmp_path: Path
) -> None:
    engine = engine_of(fakes, parallel_context, tmp_path)
    engine.update_weights(WEIGHTS.items(), version=4)
    check(engine.generate(PROMPTS, PARAMS, KEYS), 4)
    assert all(fake.answered for fake in fakes)
    assert sum(len(fake.answered) for fake in fakes) == 7  # 20 prompts, 3 a request


def test_servers_take_new_weights_and_only_the_newest_stay_on_disk(
    fakes: list[FakeRolloutServer], parallel_context: ParallelContext, tmp_path: Path
) -> None:
    engine = engine_of(fakes, parallel_context, tmp_path)
    engine.update_weights(WEIGHTS.items(), version=0)
    first = engine.weights
    engine.update_weights(RandomWeights(SHAPE, 1).items(), version=1)
    assert {fake.weights for fake in fakes} == {engine.weights} != {first}
    assert {fake.version for fake in fakes} == {1}
    assert [path.name for path in tmp_path.iterdir()] == ["weights-00000001-0002"]
    engine.close()
    assert not list(tmp_path.iterdir())


def test_wrong_weights_reach_no_server(
    fakes: list[FakeRolloutServer], parallel_context: ParallelContext, tmp_path: Path
) -> None:
    engine = engine_of(fakes, parallel_context, tmp_path)
    engine.update_weights(WEIGHTS.items(), version=0)
    bad = dict(WEIGHTS) | {"model.norm.weight": torch.ones(3)}
    bad.pop("model.layers.0.mlp.up_proj.weight")
    with pytest.raises(CheckpointError, match=r"(?s)version 1: 2 tensors.*shape \(3,\), the model.*missing"):
        engine.update_weights(bad.items(), version=1)
    assert {fake.version for fake in fakes} == {0}
    check(engine.generate(PROMPTS, PARAMS, KEYS), 0)


def test_a_server_lost_in_mid_rollout_is_made_up_for(
    fakes: list[FakeRolloutServer], parallel_context: ParallelContext, tmp_path: Path
) -> None:
    engine = engine_of(fakes, parallel_context, tmp_path)
    engine.update_weights(WEIGHTS.items(), version=0)
    fakes[0].die_after = 1
    check(engine.generate(PROMPTS, PARAMS, KEYS), 0)
    assert fakes[0].dead and engine.servers == [fakes[1].url]
    fakes[0].revive()
    check(engine.generate(PROMPTS, PARAMS, KEYS), 0)
    assert fakes[0].weights == engine.weights  # it came back with the folder's weights, and was brought up to date
    assert len(engine.servers) == 2


def test_a_failed_request_is_asked_again(
    fakes: list[FakeRolloutServer], parallel_context: ParallelContext, tmp_path: Path
) -> None:
    engine = engine_of(fakes, parallel_context, tmp_path)
    engine.update_weights(WEIGHTS.items(), version=0)
    for fake in fakes:
        fake.fail_next = 1
    check(engine.generate(PROMPTS, PARAMS, KEYS), 0)


def test_a_server_started_anew_is_not_believed(
    fakes: list[FakeRolloutServer], parallel_context: ParallelContext, tmp_path: Path
) -> None:
    engine = engine_of(fakes, parallel_context, tmp_path)
    engine.update_weights(WEIGHTS.items(), version=0)
    for fake in fakes:
        fake.revive()
    check(engine.generate(PROMPTS, PARAMS, KEYS), 0)
    assert engine.weights in {fake.weights for fake in fakes}


def test_no_server_left_is_an_error_after_a_bound(
    fakes: list[FakeRolloutServer], parallel_context: ParallelContext, tmp_path: Path
) -> None:
    engine = engine_of(fakes, parallel_context, tmp_path, bound=0.2)
    engine.update_weights(WEIGHTS.items(), version=0)
    for fake in fakes:
        fake.die_after = 1
    with pytest.raises(RedoneError, match=r"no rollout server is left, and none came back within 0 s; 5 requests"):
        engine.generate(PROMPTS, PARAMS, KEYS)


def test_a_server_that_reads_other_bits_is_lost(
    fakes: list[FakeRolloutServer], parallel_context: ParallelContext, tmp_path: Path
) -> None:
    engine = engine_of(fakes, parallel_context, tmp_path)
    fakes[0].corrupt = True
    engine.update_weights(WEIGHTS.items(), version=0)
    assert engine.servers == [fakes[1].url]
    fakes[1].corrupt = True
    with pytest.raises(RedoneError, match=r"no rollout server took the weights of version 1: .* were sent, .* arrived"):
        engine.update_weights(RandomWeights(SHAPE, 1).items(), version=1)


@pytest.mark.parametrize(
    ("shape", "tokenizer", "problem"),
    [
        ({"vocab_size": 300}, "ours", r"serves another model \(vocab_size 300, ours 256\)"),
        ({"family": "llama"}, "ours", r"serves another model \(family 'llama', ours 'qwen3'\)"),
        ({}, "theirs", r"serves another model \(tokenizer theirs, ours ours\)"),
    ],
)
def test_another_model_is_refused(
    shape: dict[str, object], tokenizer: str, problem: str, parallel_context: ParallelContext, tmp_path: Path
) -> None:
    fake = FakeRolloutServer(SHAPE.model_copy(update=shape), tmp_path, tokenizer)
    try:
        with pytest.raises(InputError, match=problem):
            engine_of([fake], parallel_context, tmp_path, tokenizer="ours")
    finally:
        fake.close()


def test_no_server_at_the_start_is_an_error(parallel_context: ParallelContext) -> None:
    config = ServersConfig(urls=("http://127.0.0.1:9",), connect_seconds=0.05)
    with pytest.raises(InputError, match=r"no rollout server answered within 0 s: http://127.0.0.1:9: .*refused"):
        RemoteEngine(config, SHAPE, parallel_context)


def test_without_a_transfer_folder_the_weights_must_be_there(
    fakes: list[FakeRolloutServer], parallel_context: ParallelContext, tmp_path: Path
) -> None:
    sender = engine_of(fakes, parallel_context, tmp_path)
    sender.update_weights(WEIGHTS.items(), version=0)
    engine = engine_of(fakes, parallel_context, None)
    engine.update_weights(WEIGHTS.items(), version=2)
    check(engine.generate(PROMPTS, PARAMS, KEYS), 2)
    with pytest.raises(CheckpointError, match=r"has weights \w+, this model is \w+"):
        engine.update_weights(RandomWeights(SHAPE, 1).items(), version=3)


def test_refused_prompts_are_the_callers_fault(
    fakes: list[FakeRolloutServer], parallel_context: ParallelContext, tmp_path: Path
) -> None:
    engine = engine_of(fakes, parallel_context, tmp_path)
    engine.update_weights(WEIGHTS.items(), version=0)
    for fake in fakes:
        fake.status = 400
    with pytest.raises(InputError, match=r"refuses /generate: as the script says"):
        engine.generate(PROMPTS, PARAMS, KEYS)
