"""The variables of torchrun and Slurm as one typed value: which process of how many this is."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypedDict

from megatron_redone.common.errors import InputError

LOCALHOST = "127.0.0.1"
ANY_FREE_PORT = 0
# Jobs of one node derive their port from the job's number, so that two jobs on a node seldom meet.
FIRST_SLURM_PORT, NUM_SLURM_PORTS = 20_000, 20_000


class Rendezvous(TypedDict):
    """Arguments by name of `parallel.context.build_context`."""

    rank: int
    world_size: int
    local_rank: int
    master_addr: str
    master_port: int
    attempt: int
    store_is_served: bool


@dataclass(frozen=True, slots=True)
class LaunchEnvironment:
    """Place of this process among those of the run."""

    rank: int
    """From 0 over all hosts."""
    local_rank: int
    """From 0 on this host; the number of the device."""
    world_size: int
    """Processes of the run over all hosts."""
    local_world_size: int
    """Processes of the run on this host."""
    master_addr: str
    """Host of rank 0."""
    master_port: int
    """Port of rank 0's store; 0 for a run of one process: any free one."""
    restart_count: int
    """How often the launcher started this run anew; names the store's prefix, so that attempts do not mix."""
    threads: int
    """CPU threads for this process."""
    store_is_served: bool = False
    """Whether the launcher itself serves a store at that address, as torchrun does; else rank 0 has to."""

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and logs."""
        return self.rank == 0

    def rendezvous(self) -> Rendezvous:
        """What `parallel.context.build_context` needs to find the other processes."""
        return {
            "rank": self.rank,
            "world_size": self.world_size,
            "local_rank": self.local_rank,
            "master_addr": self.master_addr,
            "master_port": self.master_port,
            "attempt": self.restart_count,
            "store_is_served": self.store_is_served,
        }


def from_environ(environ: Mapping[str, str]) -> LaunchEnvironment:
    """Reads the variables that torchrun, our own launcher or Slurm set; none of them means a single process.

    torchrun's win over Slurm's. Slurm's count only inside a step (`srun`): a batch script itself carries
    SLURM_NTASKS too, and there this is one process.

    Raises:
        InputError: all missing, malformed or contradicting variables at once.
    """
    reader = _Reader(environ)
    if "RANK" in environ or "WORLD_SIZE" in environ:
        result = _from_torchrun(reader)
    elif "SLURM_STEP_ID" in environ and "SLURM_PROCID" in environ:
        result = _from_slurm(reader)
    else:
        threads = reader.number("OMP_NUM_THREADS", default=default_threads(1), minimum=1)
        result = LaunchEnvironment(0, 0, 1, 1, LOCALHOST, ANY_FREE_PORT, 0, threads)
    reader.check_place(result)
    if reader.problems:
        raise InputError("the launch environment cannot be used:\n" + "\n".join(f"  - {p}" for p in reader.problems))
    return result


def default_threads(processes_on_host: int) -> int:
    """CPU threads for one of several processes that share this host's cores, at least one."""
    return max(1, available_cores() // processes_on_host)


def available_cores() -> int:
    """Cores this process may use; a batch system or container may allow fewer than the host has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _from_torchrun(reader: _Reader) -> LaunchEnvironment:
    world_size = reader.number("WORLD_SIZE", minimum=1)
    local_world_size = reader.number("LOCAL_WORLD_SIZE", default=world_size, minimum=1)
    return LaunchEnvironment(
        rank=reader.number("RANK"),
        local_rank=reader.number("LOCAL_RANK"),
        world_size=world_size,
        local_world_size=local_world_size,
        master_addr=reader.text("MASTER_ADDR"),
        master_port=reader.port("MASTER_PORT"),
        restart_count=reader.number("TORCHELASTIC_RESTART_COUNT", default=0),
        threads=reader.number("OMP_NUM_THREADS", default=default_threads(local_world_size), minimum=1),
        store_is_served=reader.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True",
    )


def _from_slurm(reader: _Reader) -> LaunchEnvironment:
    world_size_name = "SLURM_STEP_NUM_TASKS" if "SLURM_STEP_NUM_TASKS" in reader.environ else "SLURM_NTASKS"
    world_size = reader.number(world_size_name, minimum=1)
    num_nodes = reader.number("SLURM_STEP_NUM_NODES", default=reader.number("SLURM_NNODES", default=1, minimum=1))
    local_world_size = _tasks_on_node(reader, world_size, num_nodes)
    job = reader.number("SLURM_JOB_ID", default=0)
    address, port = LOCALHOST, FIRST_SLURM_PORT + job % NUM_SLURM_PORTS
    if num_nodes > 1 or "MASTER_ADDR" in reader.environ:
        remedy = "export the address of the first node in the batch script (scontrol show node prints it)"
        address = reader.text("MASTER_ADDR", remedy)
    if "MASTER_PORT" in reader.environ:
        port = reader.port("MASTER_PORT")
    return LaunchEnvironment(
        rank=reader.number("SLURM_PROCID"),
        local_rank=reader.number("SLURM_LOCALID"),
        world_size=world_size,
        local_world_size=local_world_size,
        master_addr=address,
        master_port=port,
        restart_count=reader.number("SLURM_RESTART_COUNT", default=0),
        threads=reader.number("OMP_NUM_THREADS", default=default_threads(local_world_size), minimum=1),
    )


def _tasks_on_node(reader: _Reader, world_size: int, num_nodes: int) -> int:
    """Tasks of the step on this node, from Slurm's list: `4(x2),3` is four on two nodes each, then three."""
    name = "SLURM_STEP_TASKS_PER_NODE"
    text = reader.environ.get(name)
    if text is None:
        return max(1, world_size // max(1, num_nodes))
    counts: list[int] = []
    for entry in text.split(","):
        count, _, repeat = entry.rstrip(")").partition("(x")
        if not count.isdecimal() or not (repeat or "1").isdecimal():
            reader.problems.append(f"{name}={text!r} is no list such as 4(x2),3; Slurm sets it: start with srun")
            return 1
        counts += [int(count)] * int(repeat or 1)
    node = reader.number("SLURM_NODEID", default=0)
    return counts[node] if node < len(counts) else 1


class _Reader:
    """Takes typed values out of an environment and collects what is wrong with them."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.environ = environ
        self.problems: list[str] = []

    def text(self, name: str, remedy: str = "") -> str:
        value = self.environ.get(name, "").strip()
        if not value:
            self.problems.append(f"{name} is not set; {remedy or self.remedy(name)}")
        return value

    def number(self, name: str, default: int | None = None, minimum: int = 0) -> int:
        if default is not None and name not in self.environ:
            return default
        before = len(self.problems)
        value = self.text(name)
        if len(self.problems) > before:
            return minimum
        if not value.isdecimal() or int(value) < minimum:
            self.problems.append(f"{name}={value!r} must be a whole number of at least {minimum}; {self.remedy(name)}")
            return minimum
        return int(value)

    def port(self, name: str) -> int:
        value = self.number(name, minimum=1)
        if value > 65535:
            self.problems.append(f"{name}={value} must be at most 65535; name a free port")
        return value

    def check_place(self, place: LaunchEnvironment) -> None:
        """Ranks lie within their sizes; only meaningful when every variable was readable."""
        if self.problems:
            return
        pairs = [
            ("rank", place.rank, place.world_size),
            ("local rank", place.local_rank, place.local_world_size),
        ]
        for name, rank, size in pairs:
            if rank >= size:
                self.problems.append(
                    f"{name} {rank} of {size} processes: must be less; two launchers are mixed, start anew"
                )

    def remedy(self, name: str) -> str:
        if name.startswith("SLURM_"):
            return "Slurm sets it: start with srun"
        if name == "OMP_NUM_THREADS":
            return "set it to the number of CPU threads of each process, or unset it"
        return "start with torchrun or --nproc, or unset RANK and WORLD_SIZE for a single process"
