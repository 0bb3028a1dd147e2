"""One set of weights on its way to rollout servers: as files in a shared folder, or from memory by a broadcast.

Both keep the set after it was sent: a server that comes back takes it.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from torch import Tensor

from megatron_redone.checkpoint.hf_folder import write_safetensors
from megatron_redone.common.errors import InputError
from megatron_redone.common.files import atomic_directory, atomic_write_json
from megatron_redone.common.logging import get_logger
from megatron_redone.generation.broadcast import BroadcastSender, TransferBroken, address_towards
from megatron_redone.generation.config import ServersConfig
from megatron_redone.generation.protocol import BroadcastRequest, ServerInfo, WeightsRequest
from megatron_redone.generation.server_client import HasOtherWeights, ServerClient, ServerLost
from megatron_redone.generation.weight_stream import CheckedStream

LOG = get_logger("rollout")
MAX_ROUNDS = 3
Lost = dict[ServerClient, str]
"""Servers that did not take the weights, and why."""


class Shipment(Protocol):
    """A set of weights that servers can be given."""

    version: int

    def send(self, servers: Sequence[ServerClient], weights: str) -> Lost:
        """Has the servers take the set, whose digest is `weights`; refusals (InputError) pass on."""

    def settle(self) -> None:
        """It is the current set: older ones go."""

    def drop(self) -> None:
        """Frees what it holds."""


def shipment_of(config: ServersConfig, checked: CheckedStream, version: int, number: int) -> Shipment | None:
    """Reads the stream and holds what came; None where weights are never sent."""
    if config.transfer == "broadcast":
        return BroadcastShipment({name: tensor.detach().cpu().clone() for name, tensor in checked}, version, config)
    if config.transfer_folder is None:
        return None
    return FolderShipment(checked, version, config.transfer_folder, number)


class FolderShipment:
    """Safetensors in a folder that all servers see."""

    def __init__(self, checked: CheckedStream, version: int, transfer_folder: Path, number: int) -> None:
        self.version = version
        self.folder = transfer_folder / f"weights-{version:08d}-{number:04d}"
        with atomic_directory(self.folder) as work:
            write_safetensors(work, checked)
            atomic_write_json(work / "weights.json", {"version": version, "digest": checked.digest.value})

    def send(self, servers: Sequence[ServerClient], weights: str) -> Lost:
        """Has every server read the folder."""
        request = WeightsRequest(folder=self.folder.name, version=self.version, weights=weights)
        return _Requests(dict.fromkeys(servers, request)).lost()

    def settle(self) -> None:
        """Only the current weights stay on disk, whatever an earlier run left."""
        for other in self.folder.parent.glob("weights-*"):
            if other != self.folder:
                shutil.rmtree(other, ignore_errors=True)

    def drop(self) -> None:
        """Removes the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)


class BroadcastShipment:
    """Tensors in the host memory of the job's rank 0."""

    def __init__(self, tensors: Mapping[str, Tensor], version: int, config: ServersConfig) -> None:
        self.tensors, self.version, self.config = tensors, version, config

    def send(self, servers: Sequence[ServerClient], weights: str) -> Lost:
        """One broadcast to all; if it breaks off, those that answer still get another one without the lost."""
        lost: Lost = {}
        left = [*servers]
        for _ in range(MAX_ROUNDS):
            if not left:
                break
            broken = self._round(left, weights)
            gone = {server: why for server, why in broken.items() if not server.answers()}
            lost |= gone
            left = [server for server in broken if server not in gone]
            if gone and left:
                LOG.warning("weights of version %d go out again, to %d servers", self.version, len(left))
        return lost | {server: broken[server] for server in left}

    def _round(self, servers: Sequence[ServerClient], weights: str) -> Lost:
        sender = BroadcastSender(
            self.tensors, len(servers), self._host(servers), self.config.transfer_backend, self.config.transfer_seconds
        )
        requests = {server: sender.request(rank, self.version, weights) for rank, server in enumerate(servers, 1)}
        asked = _Requests(requests)
        try:
            sender.send(asked.any_done)
        except TransferBroken as error:
            LOG.warning("weights of version %d: %s", self.version, error)
        return asked.lost()

    def _host(self, servers: Sequence[ServerClient]) -> str:
        """An address of this machine that all servers reach: not a loopback if one of them is elsewhere."""
        if self.config.transfer_host is not None:
            return self.config.transfer_host
        found = []
        for server in servers:
            place = urlsplit(server.url)
            try:
                found.append(address_towards(place.hostname or "", place.port or 80))
            except OSError:
                continue  # it is gone; its request will say so
        return next((host for host in found if not host.startswith("127.")), "127.0.0.1")

    def settle(self) -> None:
        """Nothing: the older set goes when nobody refers to it."""

    def drop(self) -> None:
        """Forgets the tensors."""
        self.tensors = {}


class _Requests:
    """Requests to several servers at once."""

    def __init__(self, requests: Mapping[ServerClient, WeightsRequest | BroadcastRequest]) -> None:
        self._pool = ThreadPoolExecutor(max(1, len(requests)))
        self._answers: dict[ServerClient, Future[ServerInfo]] = {
            server: self._pool.submit(server.set_weights, request) for server, request in requests.items()
        }

    def any_done(self) -> bool:
        """Whether one has answered."""
        return any(answer.done() for answer in self._answers.values())

    def lost(self) -> Lost:
        """Waits for all; those that did not do it.

        Raises:
            InputError: the refusal of one, after all have answered.
        """
        self._pool.shutdown()
        problems = {server: answer.exception() for server, answer in self._answers.items()}
        for problem in problems.values():
            if isinstance(problem, InputError) or (
                problem is not None and not isinstance(problem, (ServerLost, HasOtherWeights))
            ):
                raise problem
        return {server: str(problem) for server, problem in problems.items() if problem is not None}
