"""Rollout servers as one generation engine: work is shared, a lost server's work goes to the others."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable, Sequence

from torch import Tensor

from megatron_redone.common.errors import CheckpointError, InputError, RedoneError
from megatron_redone.common.logging import get_logger
from megatron_redone.generation.base import Completion, SamplingParams
from megatron_redone.generation.config import ServersConfig
from megatron_redone.generation.protocol import NOT_OF_THE_MODEL, GenerateRequest, ServerInfo
from megatron_redone.generation.sampling import sequence_keys
from megatron_redone.generation.server_client import HasOtherWeights, ServerClient, ServerLost
from megatron_redone.generation.shipments import Shipment, shipment_of
from megatron_redone.generation.weight_stream import CheckedStream
from megatron_redone.models.config import ModelShape
from megatron_redone.parallel.context import ParallelContext

LOG = get_logger("rollout")
SECONDS_BETWEEN_TRIES = 0.5


class RemoteEngine:
    """Completions by servers; rank 0 asks them and hands the answers to the other ranks.

    Args:
        config: where they are, and the bounds.
        shape: the model they must run.
        tokenizer: fingerprint of the tokenizer they must have; None: not checked.
    Raises:
        InputError: a server runs another model, or none answers within `connect_seconds`.
    """

    def __init__(
        self, config: ServersConfig, shape: ModelShape, context: ParallelContext, tokenizer: str | None = None
    ) -> None:
        self.config, self.shape, self.context, self.tokenizer = config, shape, context, tokenizer
        self.version = 0
        self.weights: str | None = None
        self._current: tuple[Shipment, str] | None = None
        """What the servers were given last, and its digest."""
        self._up: dict[str, ServerClient] = {}
        self._lost = {url: ServerClient(url, config.request_seconds) for url in config.urls}
        self._why: dict[str, str] = {}
        """Why each lost server was lost."""
        self._updates = 0
        self._lock = threading.Lock()
        context.on_main(self._connect)

    def generate(
        self, prompts: Sequence[Sequence[int]], params: SamplingParams, keys: Sequence[str]
    ) -> list[list[Completion]]:
        """`num_samples` completions of each prompt, in the order of the prompts, on every rank.

        Raises:
            InputError: a server refuses the prompts.
            RedoneError: no server is left, and none came back within `connect_seconds`.
        """
        return self.context.on_main(lambda: self.generate_here(prompts, params, keys))

    def generate_here(
        self, prompts: Sequence[Sequence[int]], params: SamplingParams, keys: Sequence[str]
    ) -> list[list[Completion]]:
        """`generate` without the other ranks; on rank 0, from any one thread."""
        size = self.config.prompts_per_request
        drawn = sequence_keys(params.seed, list(keys), params.num_samples).view(len(prompts), -1).tolist()
        requests = [
            GenerateRequest(
                weights=self.weights or "",
                prompts=tuple(tuple(prompt) for prompt in prompts[start : start + size]),
                keys=tuple(tuple(row) for row in drawn[start : start + size]),
                max_new_tokens=params.max_new_tokens,
                temperature=params.temperature,
                top_p=params.top_p,
                stop_ids=tuple(params.stop_ids),
            )
            for start in range(0, len(prompts), size)
        ]
        return [group for answer in _Rollout(self, requests).run() for group in answer]

    def update_weights(self, stream: Iterable[tuple[str, Tensor]], version: int) -> None:
        """Has every server take the weights, through the transfer folder or by a broadcast.

        They are checked before a server sees them. With neither of the two nothing is sent: the servers must have these
        very weights already.

        Raises:
            CheckpointError: tensors do not fit the model, all listed; the servers have the old weights still.
            RedoneError: no server took them.
        """
        checked = CheckedStream(stream, self.shape, f"update of the weights to version {version}")
        shipment: Shipment | None = None
        self._updates += 1
        try:
            if self.context.is_main:
                shipment = shipment_of(self.config, checked, version, self._updates)
        finally:
            checked.drain()  # the source may be a collective
        try:
            weights = checked.finish()
        except CheckpointError:
            if shipment is not None:
                shipment.drop()
            raise
        self.context.on_main(lambda: self._hand_over(shipment, weights))
        self.weights, self.version = weights, version

    def sleep(self) -> None:
        """Nothing: servers have devices of their own."""

    def wake_up(self) -> None:
        """Nothing: they did not sleep."""

    def close(self) -> None:
        """Removes the weights from the transfer folder, or from memory; the servers go on."""
        if self._current is not None:
            self._current[0].drop()
            self._current = None

    @property
    def servers(self) -> list[str]:
        """Addresses of those that answer."""
        return sorted(self._up)

    def _hand_over(self, shipment: Shipment | None, weights: str) -> None:
        self.take_back()
        if shipment is None:
            self._expect(weights)
            return
        for server, why in shipment.send([*self._up.values()], weights).items():
            self.lose(server, why)
        if not self._up:
            raise RedoneError(f"no rollout server took the weights of version {shipment.version}: {self._reasons}")
        self._current = shipment, weights
        shipment.settle()

    def _expect(self, weights: str) -> None:
        for server in [*self._up.values()]:
            if server.info().weights != weights:
                raise CheckpointError(
                    f"{server.url}: has weights {server.info().weights[:16]}, this model is {weights[:16]} (names, "
                    "types and values count); start the server with this model's folder, or set "
                    "generation.servers.transfer_folder or transfer=broadcast so that weights can be sent"
                )

    def lose(self, server: ServerClient, reason: str) -> None:
        """No more work for the server until it answers again."""
        with self._lock:
            if self._up.pop(server.url, None) is not None:
                LOG.warning("lost a rollout server, %d are left: %s", len(self._up), reason)
            self._lost[server.url] = server
            self._why[server.url] = reason

    @property
    def _reasons(self) -> str:
        return "; ".join(self._why.values()) or "none answers"

    def _connect(self) -> None:
        """Waits until all servers answer, or the bound is over and one does."""
        ends = time.monotonic() + self.config.connect_seconds
        while self._lost:
            self.take_back()
            if self._lost and time.monotonic() > ends:
                break
            if self._lost:
                time.sleep(SECONDS_BETWEEN_TRIES)
        if not self._up:
            raise InputError(
                f"no rollout server answered within {self.config.connect_seconds:.0f} s: {self._reasons}; start them "
                "with `redone serve`, or check generation.servers.urls"
            )
        if self._lost:
            LOG.warning("going on without %s: %s", ", ".join(sorted(self._lost)), self._reasons)

    def take_back(self) -> None:
        """Asks the lost servers; those that answer work again, with the current weights."""
        for server in [*self._lost.values()]:
            try:
                info = server.info()
                self._check(server, info)
                if self._current is not None and info.weights != self._current[1]:
                    self._bring_up_to_date(server, *self._current)
            except (ServerLost, HasOtherWeights) as error:
                self._why[server.url] = str(error)
                continue
            with self._lock:
                self._up[server.url] = self._lost.pop(server.url)
                self._why.pop(server.url, None)

    def _bring_up_to_date(self, server: ServerClient, shipment: Shipment, weights: str) -> None:
        for why in shipment.send([server], weights).values():
            raise ServerLost(why)

    def _check(self, server: ServerClient, info: ServerInfo) -> None:
        mine = self.shape.model_dump(mode="json", exclude=set(NOT_OF_THE_MODEL))
        other = [
            f"{name} {info.shape.get(name)!r}, ours {mine[name]!r}"
            for name in mine
            if info.shape.get(name) != mine[name]
        ]
        if self.tokenizer is not None and info.tokenizer is not None and info.tokenizer != self.tokenizer:
            other.append(f"tokenizer {info.tokenizer[:16]}, ours {self.tokenizer[:16]}")
        if other:
            raise InputError(
                f"{server.url} serves another model ({'; '.join(other)}); start it with this model's folder"
            )

    def wait_for_one(self, unanswered: int) -> list[ServerClient]:
        """The servers that answer; waits for one where there is none.

        Raises:
            RedoneError: none within `connect_seconds`.
        """
        ends = time.monotonic() + self.config.connect_seconds
        while not self._up:
            self.take_back()
            if not self._up and time.monotonic() > ends:
                raise RedoneError(
                    f"no rollout server is left, and none came back within {self.config.connect_seconds:.0f} s; "
                    f"{unanswered} requests are unanswered: {self._reasons}"
                )
            if not self._up:
                time.sleep(SECONDS_BETWEEN_TRIES)
        return [*self._up.values()]


class _Rollout:
    """Requests on their way to the servers: each server takes the next one when it has room."""

    def __init__(self, engine: RemoteEngine, requests: Sequence[GenerateRequest]) -> None:
        self.engine, self.requests = engine, requests
        self.waiting = deque(range(len(requests)))
        self.answers: dict[int, list[list[Completion]]] = {}
        self.refusal: InputError | None = None

    def run(self) -> list[list[list[Completion]]]:
        """The answers, in order."""
        self.engine.take_back()
        while len(self.answers) < len(self.requests):
            servers = self.engine.wait_for_one(len(self.requests) - len(self.answers))
            threads = [
                threading.Thread(target=self._work, args=(server,))
                for server in servers
                for _ in range(self.engine.config.concurrency)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            if self.refusal is not None:
                raise self.refusal
        return [self.answers[number] for number in range(len(self.requests))]

    def _work(self, server: ServerClient) -> None:
        while self.refusal is None and server.url in self.engine.servers:
            try:
                number = self.waiting.popleft()
            except IndexError:
                return
            try:
                reply = server.generate(self.requests[number])
            except InputError as error:
                self.refusal = error
                return
            except (ServerLost, HasOtherWeights) as error:
                self.waiting.appendleft(number)
                self.engine.lose(server, str(error))
                return
            version = self.engine.version
            self.answers[number] = [[one.completion(version) for one in group] for group in reply.completions]
