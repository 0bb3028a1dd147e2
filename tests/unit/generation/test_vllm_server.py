"""Real rollout servers: `redone serve` in processes of their own, asked, updated and killed.

Needs vLLM: `make test-vllm`.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from megatron_redone.checkpoint.hf_folder import write_safetensors
from megatron_redone.common.errors import CheckpointError, InputError, RedoneError
from megatron_redone.generation.base import Completion, SamplingParams
from megatron_redone.generation.broadcast import BroadcastSender
from megatron_redone.generation.config import GenerationConfig, ServersConfig
from megatron_redone.generation.factory import engine_for_folder, engine_for_model
from megatron_redone.generation.megatron_engine import MegatronGenerator
from megatron_redone.generation.protocol import GenerateRequest, WeightsRequest
from megatron_redone.generation.remote_engine import RemoteEngine
from megatron_redone.generation.server_client import HasOtherWeights, ServerClient, ServerLost
from megatron_redone.models.config import ModelShape
from megatron_redone.models.families import shape_to_hf
from megatron_redone.models.presets import PRESETS
from megatron_redone.parallel.context import ParallelContext
from megatron_redone.training.engine import MegatronEngine
from megatron_redone.verification.layout import SpreadWeights
from tests.generation_agreement import assert_agree

pytest.importorskip("vllm", reason="vLLM is not installed; make test-vllm runs this in an environment that has it")
pytestmark = pytest.mark.vllm

SHAPE = PRESETS["qwen3-tiny"]
START_SECONDS = 180.0
PROMPTS = [[1 + n % 200] * (n % 20 + 1) for n in range(24)]
KEYS = [str(n) for n in range(24)]


def model_folder(path: Path, shape: ModelShape, seed: int) -> Path:
    path.mkdir()
    write_safetensors(path, SpreadWeights(shape, seed).items())
    (path / "config.json").write_text(json.dumps(shape_to_hf(shape, "float32")))
    return path


class Server:
    """`redone serve` as a child process."""

    def __init__(self, work: Path, name: str, model: Path, transfer: Path, port: int = 0) -> None:
        self.ready = work / f"{name}.json"
        self.ready.unlink(missing_ok=True)
        self.log = work / f"{name}.log"
        command = [sys.executable, "-m", "megatron_redone.cli.main", "serve", str(model), "--port", str(port)]
        command += ["--ready-file", str(self.ready), "--transfer-folder", str(transfer), "--allow-broadcast"]
        command += ["max_prompt_tokens=64", "max_new_tokens=512", "max_sequences=16", "vllm.kv_cache_gib=0.05"]
        with self.log.open("w") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)

    def wait(self) -> str:
        """Its address, when it answers."""
        ends = time.monotonic() + START_SECONDS
        while not self.ready.exists():
            try:
                self.process.wait(timeout=0.1)
            except subprocess.TimeoutExpired:
                assert time.monotonic() < ends, self.log.read_text()[-2000:]
            else:
                raise AssertionError(self.log.read_text()[-2000:])
        return str(json.loads(self.ready.read_text())["url"])

    def end(self) -> int:
        self.process.terminate()
        return self.process.wait(timeout=60)


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[list[Server], Path]]:
    work = tmp_path_factory.mktemp("servers")
    model = model_folder(work / "model", SHAPE, 5)
    (work / "transfer").mkdir()
    started = [Server(work, name, model, work / "transfer") for name in ("one", "two")]
    for server in started:
        server.wait()
    yield started, work
    for server in started:
        if server.process.poll() is None:
            server.process.kill()
            server.process.wait()


def config_of(servers: list[Server], folder: Path | None, bound: float = 60.0) -> GenerationConfig:
    return GenerationConfig(
        engine="servers",
        max_prompt_tokens=64,
        max_new_tokens=512,
        servers=ServersConfig(
            urls=tuple(server.wait() for server in servers),
            transfer_folder=folder,
            prompts_per_request=2,
            concurrency=2,
            connect_seconds=bound,
        ),
    )


def broadcast_to(servers: list[Server], seconds: float = 60.0) -> GenerationConfig:
    config = config_of(servers, None)
    return config.model_copy(
        update={
            "servers": config.servers.model_copy(update={"transfer": "broadcast", "transfer_seconds": seconds}),
        }
    )


def tokens(found: list[list[Completion]]) -> list[list[tuple[int, ...]]]:
    return [[c.token_ids for c in group] for group in found]


def test_servers_answer_as_the_generator_does_and_follow_its_weights(
    servers: tuple[list[Server], Path], parallel_context: ParallelContext
) -> None:
    running, work = servers
    engine = MegatronEngine(SHAPE, parallel_context)
    engine.load_hf_weights(SpreadWeights(SHAPE, 6), "test weights")
    ours = MegatronGenerator(engine.model, parallel_context)
    theirs = engine_for_model(
        config_of(running, work / "transfer"), engine.model, parallel_context, engine.export_hf_weights
    )
    params = SamplingParams(max_new_tokens=12, num_samples=2, seed=1, stop_ids=(9,))
    first = theirs.generate(PROMPTS, params, KEYS)
    assert assert_agree(engine, PROMPTS, params, KEYS, ours.generate(PROMPTS, params, KEYS), first) <= 1
    engine.load_hf_weights(SpreadWeights(SHAPE, 5), "other weights")
    theirs.update_weights(engine.export_hf_weights(), version=1)
    second = theirs.generate(PROMPTS, params, KEYS)
    assert assert_agree(engine, PROMPTS, params, KEYS, ours.generate(PROMPTS, params, KEYS), second) <= 1
    assert tokens(second) != tokens(first)
    assert {c.version for group in second for c in group} == {1}
    theirs.close()


def test_a_folder_without_transfer_is_served_only_by_its_own_weights(
    servers: tuple[list[Server], Path], parallel_context: ParallelContext
) -> None:
    running, work = servers
    sender = engine_for_folder(config_of(running, work / "transfer"), work / "model", parallel_context)
    engine = engine_for_folder(config_of(running, None), work / "model", parallel_context)
    params = SamplingParams(max_new_tokens=4, temperature=0.0)
    assert tokens(engine.generate(PROMPTS[:3], params, KEYS[:3])) == tokens(
        sender.generate(PROMPTS[:3], params, KEYS[:3])
    )
    with pytest.raises(CheckpointError, match=r"has weights \w+, this model is"):
        engine.update_weights(SpreadWeights(SHAPE, 7).items(), version=1)
    sender.close()


def test_a_broadcast_changes_tokens_and_logprobs_as_the_generators(
    servers: tuple[list[Server], Path], parallel_context: ParallelContext
) -> None:
    running, _ = servers
    engine = MegatronEngine(SHAPE, parallel_context)
    engine.load_hf_weights(SpreadWeights(SHAPE, 16), "test weights")
    ours = MegatronGenerator(engine.model, parallel_context)
    theirs = engine_for_model(broadcast_to(running), engine.model, parallel_context, engine.export_hf_weights)
    params = SamplingParams(max_new_tokens=12, temperature=0.0)
    found = []
    for version in (0, 1):
        if version:
            engine.load_hf_weights(SpreadWeights(SHAPE, 17), "other weights")
            theirs.update_weights(engine.export_hf_weights(), version)
        found.append(theirs.generate(PROMPTS, params, KEYS))
        assert assert_agree(engine, PROMPTS, params, KEYS, ours.generate(PROMPTS, params, KEYS), found[-1]) == 0
        for server in running:
            info = ServerClient(server.wait(), 60.0).info()
            assert (info.version, info.weights) == (version, theirs.weights)  # type: ignore[attr-defined]
    assert tokens(found[0]) != tokens(found[1])
    assert {c.version for group in found[1] for c in group} == {1}
    theirs.close()


def test_a_broadcast_that_breaks_off_or_does_not_fit_changes_nothing(servers: tuple[list[Server], Path]) -> None:
    client = ServerClient(servers[0][0].wait(), 60.0)
    before = client.info()
    tensors = dict(SpreadWeights(SHAPE, 8))
    missing = {name: tensor for name, tensor in tensors.items() if name != "model.norm.weight"}
    sender = BroadcastSender(missing, 1, "127.0.0.1", "gloo", 5.0)
    with pytest.raises(InputError, match=r"(?s)1 tensors do not fit the model.*model\.norm\.weight: missing"):
        client.set_weights(sender.request(1, 9, "0123"))
    sender = BroadcastSender(tensors, 1, "127.0.0.1", "gloo", 1.0)
    with pytest.raises(ServerLost, match=r"the transfer broke off, nothing was changed"):
        client.set_weights(sender.request(1, 9, "0123"))  # nobody sends
    sender = BroadcastSender(tensors, 1, "127.0.0.1", "gloo", 20.0)
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(client.set_weights, sender.request(1, 9, "0123"))
        sender.send(answer.done)
        with pytest.raises(ServerLost, match=r"digest \w+ arrived, the sender's is 0123; nothing was changed"):
            answer.result()
    assert client.info() == before


def test_a_broadcast_waits_until_the_running_batch_is_empty(
    servers: tuple[list[Server], Path], parallel_context: ParallelContext
) -> None:
    running, work = servers
    engine = engine_for_folder(broadcast_to(running[:1]), work / "model", parallel_context)
    client = ServerClient(running[0].wait(), 120.0)
    request = GenerateRequest(
        weights=client.info().weights,
        prompts=tuple((1 + n, 2) for n in range(8)),
        keys=tuple((n,) for n in range(8)),
        max_new_tokens=300,
        temperature=1.0,
        top_p=1.0,
        stop_ids=(),
    )
    alone = client.generate(request)
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(client.generate, request)
        _until(lambda: asked.running())
        engine.update_weights(SpreadWeights(SHAPE, 18).items(), version=1)
        drained = asked.result()
    assert drained == alone  # none of its tokens is of the new weights
    with pytest.raises(HasOtherWeights, match=r"asked for weights"):
        client.generate(request)
    engine.close()


def test_a_server_killed_before_an_update_is_left_out(
    tmp_path: Path, servers: tuple[list[Server], Path], parallel_context: ParallelContext
) -> None:
    running, work = servers
    third = Server(tmp_path, "three", work / "model", work / "transfer")
    engine = engine_for_folder(broadcast_to([running[0], third], 5.0), work / "model", parallel_context)
    assert isinstance(engine, RemoteEngine) and len(engine.servers) == 2
    third.process.kill()
    third.process.wait()
    engine.update_weights(SpreadWeights(SHAPE, 19).items(), version=1)
    assert engine.servers == [running[0].wait()]
    assert ServerClient(running[0].wait(), 60.0).info().weights == engine.weights
    engine.close()


def test_a_stopped_server_is_noticed_in_the_update(
    servers: tuple[list[Server], Path], parallel_context: ParallelContext
) -> None:
    running, work = servers
    config = broadcast_to(running, 2.0)
    config = config.model_copy(update={"servers": config.servers.model_copy(update={"request_seconds": 20.0})})
    engine = engine_for_folder(config, work / "model", parallel_context)
    assert isinstance(engine, RemoteEngine)
    os.kill(running[0].process.pid, signal.SIGSTOP)
    try:
        engine.update_weights(SpreadWeights(SHAPE, 20).items(), version=1)
        assert engine.servers == [running[1].wait()]
    finally:
        os.kill(running[0].process.pid, signal.SIGCONT)
    found = engine.generate(PROMPTS[:4], SamplingParams(max_new_tokens=4, temperature=0.0), KEYS[:4])
    assert {c.version for group in found for c in group} == {1}
    engine.close()


def test_another_model_is_refused(servers: tuple[list[Server], Path], parallel_context: ParallelContext) -> None:
    other = SHAPE.model_copy(update={"vocab_size": SHAPE.vocab_size + 8})
    with pytest.raises(InputError, match=r"serves another model \(vocab_size \d+, ours \d+"):
        RemoteEngine(broadcast_to(servers[0]).servers, other, parallel_context)


def test_damaged_and_foreign_weights_are_refused_and_change_nothing(servers: tuple[list[Server], Path]) -> None:
    running, work = servers
    client = ServerClient(running[0].wait(), 60.0)
    before = client.info()
    missing = dict(SpreadWeights(SHAPE, 8))
    missing.pop("model.layers.2.mlp.down_proj.weight")
    for name, tensors in (("missing", missing), ("other", dict(SpreadWeights(SHAPE, 8)))):
        (work / "transfer" / name).mkdir()
        write_safetensors(work / "transfer" / name, tensors.items())
    for name, kind, problem in (
        ("missing", InputError, r"model.layers.2.mlp.down_proj.weight: missing"),
        ("other", ServerLost, r"the sender's 0123.*nothing was changed"),
        ("../model", InputError, r"no folder of that name"),
        ("nowhere", InputError, r"no folder of that name"),
    ):
        with pytest.raises(kind, match=problem):
            client.set_weights(WeightsRequest(folder=name, version=9, weights="0123"))
    assert client.info() == before


def test_requests_that_make_no_sense_are_refused(servers: tuple[list[Server], Path]) -> None:
    client = ServerClient(servers[0][0].wait(), 60.0)
    good = GenerateRequest(
        weights=client.info().weights,
        prompts=((1, 2),),
        keys=((5, 6),),
        max_new_tokens=4,
        temperature=1.0,
        top_p=1.0,
        stop_ids=(),
    )
    assert [len(one.token_ids) for one in client.generate(good).completions[0]] == [4, 4]
    for change, problem in (
        ({"prompts": ((1, 999),)}, r"ids 1 to 999"),
        ({"prompts": ((),)}, r"has 0 tokens"),
        ({"keys": ((1,), (2,))}, r"1 prompts, keys for 2"),
        ({"max_new_tokens": 100_000}, r"max_new_tokens is 100000"),
        ({"temperature": -1.0}, r"greater than or equal to 0"),
    ):
        with pytest.raises(InputError, match=problem):
            client.generate(good.model_copy(update=change))
    with pytest.raises(HasOtherWeights, match=r"asked for weights 0123"):
        client.generate(good.model_copy(update={"weights": "0123"}))


def test_a_killed_servers_work_is_done_by_the_other(
    servers: tuple[list[Server], Path], parallel_context: ParallelContext
) -> None:
    running, work = servers
    engine = engine_for_folder(config_of(running, work / "transfer", bound=1.0), work / "model", parallel_context)
    assert isinstance(engine, RemoteEngine)
    params = SamplingParams(max_new_tokens=200, seed=2, num_samples=2)
    whole = engine.generate(PROMPTS, params, KEYS)
    found = _while_running(lambda: engine.generate(PROMPTS, params, KEYS), running[0].process.kill)
    assert tokens(found) == tokens(whole)
    assert engine.servers == [running[1].wait()]
    with pytest.raises(RedoneError, match=r"no rollout server is left, and none came back within 1 s; \d+ requests"):
        _while_running(lambda: engine.generate(PROMPTS, params, KEYS), running[1].process.kill)


def test_a_server_ends_by_sigterm(tmp_path: Path) -> None:
    (tmp_path / "transfer").mkdir()
    server = Server(tmp_path, "one", model_folder(tmp_path / "model", SHAPE, 5), tmp_path / "transfer")
    server.wait()
    assert server.end() == 0, server.log.read_text()


def _until(true: Callable[[], bool]) -> None:
    ends = time.monotonic() + 30.0
    while not true():
        assert time.monotonic() < ends


def _while_running(work: Callable[[], list[list[Completion]]], interrupt: Callable[[], None]) -> list[list[Completion]]:
    """The result of `work`, which is interrupted a moment after its start."""
    timer = threading.Timer(0.3, interrupt)
    timer.start()
    try:
        return work()
    finally:
        timer.join()
