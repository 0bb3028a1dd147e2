"""Weights that reach rollout servers by a broadcast over gloo: what arrives, and what is refused."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from torch import Tensor

from megatron_redone.common.errors import CheckpointError, ConfigError, InputError, RedoneError
from megatron_redone.config.loading import validate
from megatron_redone.generation.base import SamplingParams
from megatron_redone.generation.broadcast import BroadcastSender, TransferBroken, buckets, entry_of, receive
from megatron_redone.generation.config import GenerationConfig, ServersConfig
from megatron_redone.generation.remote_engine import RemoteEngine
from megatron_redone.generation.weight_stream import WeightDigest
from megatron_redone.models.presets import PRESETS
from megatron_redone.models.weights import RandomWeights
from megatron_redone.parallel.context import ParallelContext
from tests.fake_rollout_server import FakeRolloutServer

SHAPE = PRESETS["qwen3-tiny"]
PARAMS = SamplingParams(max_new_tokens=2)
PROMPTS = [[1, 2]] * 8
KEYS = [str(n) for n in range(8)]


def weights_of(seed: int) -> dict[str, Tensor]:
    return dict(RandomWeights(SHAPE, seed))


def digest_of(tensors: dict[str, Tensor]) -> str:
    digest = WeightDigest()
    for name, tensor in tensors.items():
        digest.add(name, tensor)
    return digest.value


def transfer(
    tensors: dict[str, Tensor], weights: str, servers: int = 1, change: Callable[[], None] = lambda: None
) -> list[dict[str, Tensor]]:
    """What each of the receivers got; `change` is called when the requests are made and nothing was sent yet."""
    sender = BroadcastSender(tensors, servers, "127.0.0.1", "gloo", 10.0)
    requests = [sender.request(rank, 3, weights) for rank in range(1, servers + 1)]
    change()
    with ThreadPoolExecutor(servers) as pool:
        answers: list[Future[dict[str, Tensor]]] = [pool.submit(receive, request, SHAPE) for request in requests]
        try:
            sender.send(lambda: any(answer.done() for answer in answers))
        except TransferBroken:
            assert any(answer.exception() for answer in answers)
    return [answer.result() for answer in answers]


def test_every_receiver_gets_every_bit() -> None:
    tensors = weights_of(1)
    tensors["model.norm.weight"] = tensors["model.norm.weight"].to(torch.bfloat16)  # types may differ in a bucket
    for found in transfer(tensors, digest_of(tensors), servers=2):
        assert found.keys() == tensors.keys()
        for name, tensor in tensors.items():
            assert found[name].dtype == tensor.dtype and torch.equal(found[name], tensor)


def test_buckets_hold_every_tensor_once_in_order() -> None:
    entries = [entry_of(str(n), torch.zeros(n, dtype=torch.bfloat16)) for n in (0, 3, 5, 40, 2, 2, 0)]
    found = buckets(entries, bucket_bytes=16)
    assert found == [[0, 1, 2], [3], [4, 5, 6]]  # 40 alone: larger than a bucket
    assert buckets([], 16) == []


def test_a_changed_bit_on_the_way_is_seen() -> None:
    tensors = weights_of(1)
    weights = digest_of(tensors)

    def flip() -> None:
        tensors["model.norm.weight"].view(torch.int32)[5] ^= 1

    with pytest.raises(TransferBroken, match=r"version 3 .*digest \w+ arrived, the sender's is \w+; nothing was"):
        transfer(tensors, weights, change=flip)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"model.norm.weight": None}, r"(?s)1 tensors.*model\.norm\.weight: missing"),
        ({"model.norm.weight": torch.ones(3)}, r"(?s)1 tensors.*shape \(3,\), the model has"),
        ({"model.extra.weight": torch.ones(3)}, r"(?s)1 tensors.*model\.extra\.weight: the model has no such"),
    ],
)
def test_what_does_not_fit_is_refused_before_it_is_sent(change: dict[str, Tensor | None], problem: str) -> None:
    changed = weights_of(1) | change
    tensors = {name: tensor for name, tensor in changed.items() if tensor is not None}
    with pytest.raises(CheckpointError, match=problem):
        transfer(tensors, "0")


def test_a_tensor_announced_twice_is_refused() -> None:
    request = BroadcastSender(weights_of(1), 1, "127.0.0.1", "gloo", 1.0).request(1, 0, "0")
    twice = request.model_copy(update={"tensors": (*request.tensors, request.tensors[0])})
    with pytest.raises(CheckpointError, match=r"comes twice"):
        receive(twice, SHAPE)


def test_a_sender_that_is_gone_is_an_error_not_a_wait() -> None:
    request = BroadcastSender(weights_of(1), 1, "127.0.0.1", "gloo", 0.3).request(1, 0, "0")
    with pytest.raises(TransferBroken, match=r"the transfer broke off, nothing was changed"):
        receive(request, SHAPE)  # its store went with it, or nobody says a word


def test_receivers_that_do_not_come_are_an_error_after_a_bound() -> None:
    sender = BroadcastSender(weights_of(1), 2, "127.0.0.1", "gloo", 0.2)
    with pytest.raises(TransferBroken, match=r"not all of 2 servers came within 0 s"):
        sender.send(lambda: False)


def test_nccl_without_a_gpu_is_refused() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    request = BroadcastSender(weights_of(1), 1, "127.0.0.1", "nccl", 1.0).request(1, 0, "0")
    with pytest.raises(InputError, match=r"transfer_backend=nccl: no CUDA device"):
        receive(request, SHAPE)


@pytest.fixture
def fakes() -> Iterator[list[FakeRolloutServer]]:
    servers = [FakeRolloutServer(SHAPE) for _ in range(2)]
    yield servers
    for server in servers:
        server.close()


def engine_of(
    fakes: list[FakeRolloutServer], context: ParallelContext, seconds: float = 10.0, host: str | None = None
) -> RemoteEngine:
    config = ServersConfig(
        urls=tuple(fake.url for fake in fakes),
        transfer="broadcast",
        transfer_seconds=seconds,
        transfer_host=host,
        prompts_per_request=1,
        connect_seconds=0.5,
        request_seconds=10,
    )
    return RemoteEngine(config, SHAPE, context)


def versions(engine: RemoteEngine) -> set[int]:
    return {one.version for group in engine.generate(PROMPTS, PARAMS, KEYS) for one in group}


def test_servers_take_new_weights(fakes: list[FakeRolloutServer], parallel_context: ParallelContext) -> None:
    engine = engine_of(fakes, parallel_context)
    for version in (0, 1):
        engine.update_weights(weights_of(version).items(), version)
        assert {fake.weights for fake in fakes} == {engine.weights} == {digest_of(weights_of(version))}
        assert versions(engine) == {version}
    engine.close()


def test_wrong_weights_reach_no_server(fakes: list[FakeRolloutServer], parallel_context: ParallelContext) -> None:
    engine = engine_of(fakes, parallel_context)
    engine.update_weights(weights_of(0).items(), version=0)
    bad = weights_of(1)
    bad.pop("model.norm.weight")
    with pytest.raises(CheckpointError, match=r"(?s)version 1: 1 tensors.*model\.norm\.weight: missing"):
        engine.update_weights(bad.items(), version=1)
    assert {fake.version for fake in fakes} == {0} and versions(engine) == {0}


def test_a_server_that_dies_in_the_transfer_does_not_keep_the_others_from_it(
    fakes: list[FakeRolloutServer], parallel_context: ParallelContext
) -> None:
    engine = engine_of(fakes, parallel_context, seconds=1.0)
    engine.update_weights(weights_of(0).items(), version=0)
    fakes[0].dies_in_transfer = True
    engine.update_weights(weights_of(1).items(), version=1)
    assert engine.servers == [fakes[1].url] and fakes[1].weights == engine.weights
    assert versions(engine) == {1}
    fakes[0].dies_in_transfer = False
    fakes[0].revive()
    assert versions(engine) == {1}
    assert fakes[0].weights == engine.weights  # it came back and was given them from memory
    assert len(engine.servers) == 2


def test_no_server_takes_them(fakes: list[FakeRolloutServer], parallel_context: ParallelContext) -> None:
    engine = engine_of(fakes, parallel_context, seconds=0.5)
    for fake in fakes:
        fake.corrupt = True
    with pytest.raises(RedoneError, match=r"no rollout server took the weights of version 2: .* were sent, .* arrived"):
        engine.update_weights(weights_of(0).items(), version=2)


def test_the_address_of_the_settings_is_told(fakes: list[FakeRolloutServer], parallel_context: ParallelContext) -> None:
    engine = engine_of(fakes, parallel_context, seconds=0.5, host="127.0.0.9")
    engine.update_weights(weights_of(0).items(), version=0)
    assert engine.weights == fakes[0].weights


def test_a_folder_and_a_broadcast_are_one_too_many(tmp_path: Path) -> None:
    data = {"servers": {"transfer": "broadcast", "transfer_folder": str(tmp_path)}}
    with pytest.raises(ConfigError, match=r"nothing passes through it with servers.transfer=broadcast"):
        validate(GenerationConfig, data, "settings")


def test_no_thread_is_left() -> None:
    before = threading.active_count()
    transfer(weights_of(1), digest_of(weights_of(1)))
    assert threading.active_count() == before
