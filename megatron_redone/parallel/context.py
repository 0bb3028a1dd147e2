"""The parallel layout of a running job: groups, this rank's place, the device.

`ParallelContext` is built once and passed on. Megatron's own `parallel_state` is initialised here and touched
nowhere else.
"""

from __future__ import annotations

import contextlib
import datetime
import gc
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch._C._distributed_c10d import HashStore, PrefixStore, Store, TCPStore

from megatron_redone.common.errors import ConfigError, Interrupted
from megatron_redone.parallel.config import ParallelConfig
from megatron_redone.parallel.gpu_machine import machine_problems
from megatron_redone.parallel.platform import install_cpu_platform, on_cuda

T = TypeVar("T")
Group = Any


@dataclass(frozen=True)
class Axis:
    """One axis of the layout as this rank sees it."""

    size: int
    rank: int
    group: Group


@dataclass(frozen=True)
class ParallelContext:
    """Axes, groups and device of this rank."""

    config: ParallelConfig
    rank: int
    world_size: int
    tp: Axis
    pp: Axis
    cp: Axis
    dp: Axis
    """Replicas that read different micro-batches."""
    dp_cp: Axis
    """All ranks that hold the same dense weights: gradients are summed over them, generation spreads prompts."""
    ep: Axis
    etp: Axis
    device: torch.device

    @property
    def is_main(self) -> bool:
        """Whether this rank writes files and shows progress."""
        return self.rank == 0

    @property
    def is_first_stage(self) -> bool:
        """Whether this rank holds the embedding."""
        return self.pp.rank == 0

    @property
    def is_last_stage(self) -> bool:
        """Whether this rank holds the output layer."""
        return self.pp.rank == self.pp.size - 1

    @property
    def dtype(self) -> torch.dtype:
        """Data type of weights and activations."""
        return {"bf16": torch.bfloat16, "fp32": torch.float32, "fp64": torch.float64}[self.config.precision]

    def barrier(self) -> None:
        """Waits for all ranks."""
        if self.world_size > 1:
            dist.barrier()

    def broadcast_object(self, value: T | None, source: int = 0) -> T:
        """The object of rank `source` on every rank (trusted processes of this job only: it is pickled)."""
        if self.world_size == 1:
            assert value is not None
            return value
        box = [value]
        dist.broadcast_object_list(box, src=source)
        return box[0]  # type: ignore[return-value]

    def on_main(self, action: Callable[[], T]) -> T:
        """Runs `action` on rank 0 and gives its result, or its exception, to every rank."""
        if self.world_size == 1:
            return action()
        outcome: tuple[str, Any] | None = None
        if self.is_main:
            try:
                outcome = ("value", action())
            except Exception as error:  # noqa: BLE001 - handed to all ranks, which raise it alike
                outcome = ("error", error)
        kind, value = self.broadcast_object(outcome)
        if kind == "error":
            raise value
        return value  # type: ignore[no-any-return]

    def gather_objects(self, value: T, axis: Axis) -> list[T]:
        """The values of all ranks of an axis in order, on every one of them (trusted processes: they are pickled)."""
        if axis.size == 1:
            return [value]
        values: list[Any] = [None] * axis.size
        dist.all_gather_object(values, value, group=axis.group)
        return values

    def gather_from_all(self, value: T) -> list[T]:
        """The values of all ranks in order, on every one of them (trusted processes: they are pickled)."""
        if self.world_size == 1:
            return [value]
        values: list[Any] = [None] * self.world_size
        dist.all_gather_object(values, value)
        return values

    def maximum(self, value: int) -> int:
        """The largest value of all ranks, on every one of them. A collective."""
        if self.world_size == 1:
            return value
        largest = torch.tensor([value], device=self.device)
        dist.all_reduce(largest, op=dist.ReduceOp.MAX)
        return int(largest.item())


def build_context(
    config: ParallelConfig,
    *,
    rank: int = 0,
    world_size: int = 1,
    local_rank: int = 0,
    master_addr: str = "127.0.0.1",
    master_port: int = 0,
    store: Store | None = None,
    attempt: int = 0,
    store_is_served: bool = False,
    timeout_seconds: float = 7200.0,
) -> ParallelContext:
    """Starts the process group (gloo on CPU, NCCL on CUDA) if there is none and lays the axes over it.

    Args:
        store: a rendezvous store to use; by default a TCP store at master_addr:master_port
            (in one process a store in memory).
        attempt: how often the launcher started the job anew; attempts share one store and must not meet in it.
        store_is_served: whether the launcher serves the TCP store already; else rank 0 does.
        timeout_seconds: how long a collective may wait for another rank (one rank may work alone for long).
    Raises:
        ConfigError: the layout does not fit the world size.
    """
    problems = [*config.problems(world_size), *machine_problems(config.gpu)]
    if not on_cuda() and config.etp > 1 and config.ep > 1 and config.moe_dispatcher == "alltoall":
        problems.append(
            f"parallel.etp={config.etp} with ep={config.ep} and moe_dispatcher=alltoall on CPU: gloo gathers rows of "
            "one length only; set etp=1 or moe_dispatcher=allgather"
        )
    if problems:
        raise ConfigError(problems)
    install_cpu_platform()
    if not dist.is_initialized():
        timeout = datetime.timedelta(seconds=timeout_seconds)
        if store is None and world_size == 1:
            store = HashStore()
        elif store is None:
            serves = rank == 0 and not store_is_served
            store = TCPStore(master_addr, master_port, world_size, serves, timeout=timeout)
        _start_process_group(rank, world_size, local_rank, PrefixStore(f"attempt_{attempt}", store), timeout)
    global _laid
    if _laid is None or _axis_sizes(_laid.config) != _axis_sizes(config):
        _laid = _lay_axes(config, local_rank)
    return replace(_laid, config=config)


_laid: ParallelContext | None = None
"""The layout that Megatron's own global state is in; an equal one is taken again. Laying another one ends the groups of
this one, and with them whatever was built on it."""


def _axis_sizes(config: ParallelConfig) -> tuple[int, ...]:
    return (config.tp, config.pp, config.vpp, config.cp, config.ep, config.etp)


def _start_process_group(
    rank: int, world_size: int, local_rank: int, store: Store, timeout: datetime.timedelta
) -> None:
    if on_cuda():
        torch.cuda.set_device(local_rank)
    backend = "nccl" if on_cuda() else "gloo"
    dist.init_process_group(backend, store=store, rank=rank, world_size=world_size, timeout=timeout)


def _lay_axes(config: ParallelConfig, local_rank: int) -> ParallelContext:
    with warnings.catch_warnings():  # missing optional packages (Transformer Engine, Apex) are a supported case
        warnings.simplefilter("ignore")
        from megatron.core import parallel_state
        from megatron.core.tensor_parallel import model_parallel_cuda_manual_seed

    for group in (parallel_state._global_process_group_list or [])[1:]:  # else their threads and sockets stay
        dist.destroy_process_group(group)
    parallel_state.destroy_model_parallel()
    parallel_state.initialize_model_parallel(
        config.tp,
        config.pp,
        config.vpp if config.vpp > 1 else None,
        context_parallel_size=config.cp,
        expert_model_parallel_size=config.ep,
        expert_tensor_parallel_size=config.etp,
    )
    model_parallel_cuda_manual_seed(0, force_reset_rng=True)  # dropout is 0: the tracker only has to exist

    def axis(group: Group) -> Axis:
        return Axis(dist.get_world_size(group), dist.get_rank(group), group)

    return ParallelContext(
        config=config,
        rank=dist.get_rank(),
        world_size=dist.get_world_size(),
        tp=axis(parallel_state.get_tensor_model_parallel_group()),
        pp=axis(parallel_state.get_pipeline_model_parallel_group()),
        cp=axis(parallel_state.get_context_parallel_group()),
        dp=axis(parallel_state.get_data_parallel_group()),
        dp_cp=axis(parallel_state.get_data_parallel_group(with_context_parallel=True)),
        ep=axis(parallel_state.get_expert_model_parallel_group()),
        etp=axis(parallel_state.get_expert_tensor_parallel_group()),
        device=torch.device("cuda", local_rank) if on_cuda() else torch.device("cpu"),
    )


def shutdown() -> None:
    """Ends Megatron's state and all groups, with the threads that serve those which nobody holds any more.

    A thread that lets go of its last collective while the interpreter is ending aborts the process, whatever the
    outcome of the run was.
    """
    from megatron.core import parallel_state

    global _laid
    _laid = None
    parallel_state.destroy_model_parallel()
    for forgotten in ("_INTRA_PARTIAL_DATA_PARALLEL_GROUP_WITH_CP", "_INTRA_PARTIAL_DATA_PARALLEL_GROUP_WITH_CP_GLOO"):
        setattr(parallel_state, forgotten, None)
    if dist.is_initialized():
        dist.destroy_process_group()
    gc.collect()  # engines refer to themselves, and to groups


@contextlib.contextmanager
def left_together(world_size: int) -> Iterator[None]:
    """Ends the groups of several ranks when they are done or have agreed on a stop.

    A rank that fails alone leaves them alone: the others may never come to what it would wait for.
    """
    try:
        yield
    except Interrupted as error:
        if world_size > 1:
            traceback.clear_frames(error.__traceback__)  # where it was raised, engines are held
            shutdown()
        raise
    if world_size > 1:
        shutdown()
