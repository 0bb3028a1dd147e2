"""Weights from a job to its rollout servers by a broadcast: the sender is rank 0 of a group that lives for one update.

The sender opens a store and tells every server over HTTP where it is and what will come: names, types, shapes and the
digest. Who has seen that the announced tensors are those of its model says so in the store; when all have, the group is
made and the bytes go out in buckets. A server keeps them in host memory until all came and their digest is right, so a
transfer that breaks off changes nothing. Nothing is pickled: what passes is numbers, and JSON that is checked.
"""

from __future__ import annotations

import collections
import contextlib
import datetime
import math
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch._C._distributed_c10d import PrefixStore, Store, TCPStore

from megatron_redone.common.errors import CheckpointError, InputError, RedoneError
from megatron_redone.generation.protocol import BroadcastRequest, TensorEntry
from megatron_redone.generation.weight_stream import CheckedStream, listed
from megatron_redone.models.config import ModelShape
from megatron_redone.models.weights import hf_shapes

BUCKET_BYTES = 1 << 28
"""Bytes of one collective; a larger tensor goes alone."""
SECONDS_BETWEEN_LOOKS = 0.02
GO, STOP = b"go", b"stop"


class TransferBroken(RedoneError):
    """The weights did not arrive whole; nothing was changed."""


def entry_of(name: str, tensor: Tensor) -> TensorEntry:
    """What is announced of a tensor."""
    dtype: Any = str(tensor.dtype).removeprefix("torch.")
    return TensorEntry(name=name, dtype=dtype, shape=tuple(tensor.shape))


class BroadcastSender:
    """One update on its way, as the sender sees it.

    Args:
        tensors: whole tensors by their Hugging Face names, in host memory.
        num_servers: how many take part.
        host: address of this machine that the servers reach.
        backend: gloo or nccl.
        seconds: bound on the wait for the servers, and on each bucket.
    """

    def __init__(
        self, tensors: Mapping[str, Tensor], num_servers: int, host: str, backend: str, seconds: float
    ) -> None:
        self.tensors, self.num_servers, self.host = tensors, num_servers, host
        self.backend, self.seconds = backend, seconds
        self._store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False, timeout=_bound(seconds))

    def request(self, rank: int, version: int, weights: str) -> BroadcastRequest:
        """What the server that is to be `rank` (from 1) is asked for."""
        return BroadcastRequest(
            host=self.host,
            port=self._store.port,
            rank=rank,
            world_size=self.num_servers + 1,
            backend=self.backend,  # type: ignore[arg-type]
            seconds=self.seconds,
            version=version,
            weights=weights,
            tensors=tuple(entry_of(name, tensor) for name, tensor in self.tensors.items()),
        )

    def send(self, someone_failed: Callable[[], bool]) -> None:
        """Waits until all servers are there, then sends.

        Args:
            someone_failed: whether a server has answered its request already, which it can only do with a refusal.
        Raises:
            TransferBroken: a server is missing, or broke off.
        """
        here = [f"here {rank}" for rank in range(1, self.num_servers + 1)]
        ends = time.monotonic() + self.seconds
        while not self._store.check(here):
            if someone_failed() or time.monotonic() > ends:
                self._store.set("word", STOP.decode())
                raise TransferBroken(f"not all of {self.num_servers} servers came within {self.seconds:.0f} s")
            time.sleep(SECONDS_BETWEEN_LOOKS)
        self._store.set("word", GO.decode())
        entries = [entry_of(name, tensor) for name, tensor in self.tensors.items()]
        with _group(self._store, 0, self.num_servers + 1, self.host, self.backend, self.seconds) as broadcast:
            for bucket in buckets(entries):
                parts = [self.tensors[entries[place].name].detach().contiguous() for place in bucket]
                broadcast(torch.cat([part.view(-1).view(torch.uint8) for part in parts]))


def receive(request: BroadcastRequest, shape: ModelShape) -> dict[str, Tensor]:
    """The announced tensors, in host memory, after all came and their digest was right.

    Raises:
        CheckpointError: what is announced does not fit the model, all listed.
        InputError: NCCL is asked for where there is no CUDA device.
        TransferBroken: the sender is not there, broke off, or other bits came than it sent.
    """
    check_announced(request, shape)
    if request.backend == "nccl" and not torch.cuda.is_available():
        raise InputError("generation.servers.transfer_backend=nccl: no CUDA device at this server; set it to gloo")
    source = f"weights of version {request.version} from {request.host}:{request.port}"
    try:
        store = TCPStore(
            request.host, request.port, is_master=False, wait_for_workers=False, timeout=_bound(request.seconds)
        )
        store.set(f"here {request.rank}", "")
        if store.get("word") != GO:
            raise TransferBroken(f"{source}: the sender called it off; nothing was changed")
        mine = address_towards(request.host, request.port)
        tensors: dict[str, Tensor] = {}
        with _group(store, request.rank, request.world_size, mine, request.backend, request.seconds) as broadcast:
            for bucket in buckets(request.tensors):
                entries = [request.tensors[place] for place in bucket]
                came = broadcast(torch.empty(sum(map(num_bytes, entries)), dtype=torch.uint8))
                tensors.update(_cut(came, entries))
    except (RuntimeError, OSError) as error:  # torch raises nothing narrower for a peer that is gone
        raise TransferBroken(f"{source}: the transfer broke off, nothing was changed: {error}") from error
    checked = CheckedStream(tensors.items(), shape, source)
    checked.drain()
    found = checked.finish()
    if found != request.weights:
        raise TransferBroken(
            f"{source}: digest {found[:16]} arrived, the sender's is {request.weights[:16]}; nothing was changed"
        )
    return tensors


def check_announced(request: BroadcastRequest, shape: ModelShape) -> None:
    """Raises CheckpointError unless just the model's tensors are announced; before any memory is taken for them."""
    expected = hf_shapes(shape)
    names = [entry.name for entry in request.tensors]
    problems = [f"{name}: comes twice" for name, number in collections.Counter(names).items() if number > 1]
    for entry in request.tensors:
        if entry.name not in expected:
            problems.append(f"{entry.name}: the model has no such tensor")
        elif entry.shape != expected[entry.name]:
            problems.append(f"{entry.name}: shape {entry.shape}, the model has {expected[entry.name]}")
    announced = set(names)
    problems += [f"{name}: missing" for name in expected if name not in announced]
    if problems:
        head = f"announced weights of version {request.version}: {len(problems)} tensors do not fit the model"
        raise CheckpointError(listed(head, problems))


def num_bytes(entry: TensorEntry) -> int:
    """Of the whole tensor."""
    return math.prod(entry.shape) * torch.empty(0, dtype=getattr(torch, entry.dtype)).element_size()


def buckets(entries: Sequence[TensorEntry], bucket_bytes: int = BUCKET_BYTES) -> list[list[int]]:
    """Places of the tensors that go together, in order; sender and receivers cut alike."""
    found: list[list[int]] = []
    room = 0
    for place, entry in enumerate(entries):
        if not found or num_bytes(entry) > room:
            found.append([])
            room = bucket_bytes
        found[-1].append(place)
        room -= num_bytes(entry)
    return found


def address_towards(host: str, port: int) -> str:
    """The address of this machine on the way to another one.

    Raises:
        OSError: there is no way.
    """
    with socket.create_connection((host, port), timeout=5.0) as connection:
        return str(connection.getsockname()[0])


def _cut(flat: Tensor, entries: Sequence[TensorEntry]) -> Iterator[tuple[str, Tensor]]:
    start = 0
    for entry in entries:
        end = start + num_bytes(entry)
        part = flat[start:end].clone()  # by itself: a view into the bucket may lie askew for its type
        yield entry.name, part.view(getattr(torch, entry.dtype)).view(entry.shape)
        start = end


@contextlib.contextmanager
def _group(
    store: Store, rank: int, size: int, host: str, backend: str, seconds: float
) -> Iterator[Callable[[Tensor], Tensor]]:
    """A group beside the job's own; gives a function that broadcasts a tensor in host memory from rank 0.

    Raises:
        TransferBroken: a member is gone, or does not come within `seconds`.
    """
    named = PrefixStore("weights", store)
    group: Any = None
    try:
        group = _gloo(named, rank, size, host, seconds) if backend == "gloo" else _nccl(named, rank, size, seconds)
        yield lambda tensor: _broadcast(group, tensor, backend, seconds)
    except RuntimeError as error:
        raise TransferBroken(f"a member of the transfer is gone or does not answer: {error}") from error
    finally:
        if backend == "nccl" and group is not None:
            group.abort()


def _gloo(store: Store, rank: int, size: int, host: str, seconds: float) -> Any:
    options: Any = dist.ProcessGroupGloo._Options()  # type: ignore[attr-defined]
    options._devices = [dist.ProcessGroupGloo.create_device(hostname=host)]
    options._timeout = _bound(seconds)
    return dist.ProcessGroupGloo(store, rank, size, options)


def _nccl(store: Store, rank: int, size: int, seconds: float) -> Any:
    options = dist.ProcessGroupNCCL.Options()
    options._timeout = _bound(2 * seconds)  # ours comes first: NCCL's ends the whole process
    return dist.ProcessGroupNCCL(store, rank, size, options)


def _broadcast(group: Any, tensor: Tensor, backend: str, seconds: float) -> Tensor:
    options = dist.BroadcastOptions()
    options.rootRank, options.timeout = 0, _bound(seconds)
    if backend == "gloo":
        group.broadcast([tensor], options).wait(_bound(seconds))
        return tensor
    on_device = tensor.cuda()
    work = group.broadcast([on_device], options)
    ends = time.monotonic() + seconds
    while not work.is_completed():  # a wait would block the device's stream for ever if a member is gone
        if time.monotonic() > ends:
            raise TransferBroken(f"a bucket was not through after {seconds:.0f} s")
        time.sleep(SECONDS_BETWEEN_LOOKS)
    return on_device.cpu()


def _bound(seconds: float) -> datetime.timedelta:
    return datetime.timedelta(seconds=seconds)
