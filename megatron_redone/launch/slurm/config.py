"""A cluster profile: what the nodes of a Slurm cluster have, and how jobs are run on them. Imports no torch."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from megatron_redone.config.base import StrictModel

TIME = re.compile(r"(?:(\d+)-)?(\d+):(\d{2}):(\d{2})")
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def seconds_of(time: str) -> int:
    """Seconds of a limit of time as Slurm writes it: hours:minutes:seconds, with days- before it if wanted.

    Raises:
        ValueError: it is written otherwise.
    """
    found = TIME.fullmatch(time)
    if not found:
        raise ValueError(f"{time!r} is no time such as 24:00:00 or 2-00:00:00")
    days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds


class NodesConfig(StrictModel):
    """Nodes of one kind, and what a job takes of each."""

    partition: str | None = None
    """null: the cluster's default partition."""
    ranks_per_node: int = Field(1, ge=1)
    """Processes of a job on a node: one a GPU."""
    gpus_per_node: int = Field(0, ge=0)
    gpu_type: str | None = None
    """Name of the GPU in Slurm's configuration, where it has one: `h100`."""
    cpus_per_rank: int = Field(1, ge=1)
    """Cores of each process; also its OMP_NUM_THREADS where `variables` does not say otherwise."""
    memory_gib: int | None = Field(None, ge=0)
    """Memory of a job on a node in GiB; 0: all of it; null: the cluster's default."""
    time: str = "24:00:00"
    """Limit of one job. A training that needs longer goes on in the same job, requeued from its checkpoint."""
    sbatch: tuple[str, ...] = ()
    """Further options of sbatch: `--exclusive`, `--constraint=ib`."""

    def rule_violations(self) -> Iterator[str]:
        """One process a GPU; a time that Slurm reads; options that are some."""
        if self.gpus_per_node and self.gpus_per_node % self.ranks_per_node:
            yield (
                f"ranks_per_node={self.ranks_per_node} does not divide gpus_per_node={self.gpus_per_node}; "
                "a process has one GPU: set both to the same number"
            )
        if self.gpu_type is not None and not self.gpus_per_node:
            yield f"gpu_type={self.gpu_type!r} without GPUs; set gpus_per_node, or leave it out"
        try:
            seconds_of(self.time)
        except ValueError:
            yield f"time={self.time!r} is no limit of time; write hours:minutes:seconds, 24:00:00 or 2-00:00:00"
        wrong = [option for option in self.sbatch if not option.startswith("-") or "\n" in option]
        if wrong:
            yield f"sbatch={wrong[0]!r} is no option of sbatch; write --name=value"


class ContainerConfig(StrictModel):
    """An image that the processes run in."""

    engine: Literal["pyxis", "apptainer"]
    """pyxis: enroot through srun's own options; apptainer: the program in front of the command."""
    image: str
    """A .sqsh file or registry name for pyxis, a .sif file for apptainer."""
    mounts: tuple[str, ...] = ()
    """`/scratch:/scratch`; the working folder, the run's folder and the recipe's are always mounted."""


class RequeueConfig(StrictModel):
    """How often a job starts again by itself."""

    after_signal: int = Field(50, ge=0)
    """Times it goes on after it was checkpointed near its limit of time."""
    after_failure: int = Field(3, ge=0)
    """Times it goes on after a node or a process was lost."""
    failures_of_node: int = Field(2, ge=1)
    """A node on which so many attempts of the run failed gets no more of it."""


class ClusterConfig(StrictModel):
    """A cluster profile."""

    name: str
    account: str | None = None
    qos: str | None = None
    model: NodesConfig
    """Where stages that run a model go."""
    data: NodesConfig = NodesConfig(cpus_per_rank=4, time="12:00:00")
    """Where all other stages go: one process on one node."""
    rollout: NodesConfig | None = None
    """Where rollout servers go; null: on nodes as `model` describes them, one server a node."""
    venv: str | None = None
    """Folder of the virtual environment, on every node; null: the Python that submits. Not read with a container,
    whose `redone` is on its path."""
    container: ContainerConfig | None = None
    setup: tuple[str, ...] = ()
    """Lines of the batch file before anything else: `module load cuda/13.0`."""
    variables: dict[str, str] = Field(default_factory=dict)
    """Environment of every process: NCCL_SOCKET_IFNAME, GLOO_SOCKET_IFNAME, ..."""
    signal_seconds: int = Field(300, ge=10)
    """So long before its limit of time a job is told to checkpoint; longer than a step and a checkpoint together."""
    checkpoint_gb_per_second: float = Field(2.0, gt=0)
    """What all nodes together write to the shared file system; tells whether a checkpoint fits `signal_seconds`."""
    wait_seconds: int = Field(300, ge=1)
    """How long the other processes may take to end after the first one did. Rank 0 still writes the report then."""
    requeue: RequeueConfig = RequeueConfig()

    def rule_violations(self) -> Iterator[str]:
        """Time to work before the signal; names that a shell takes."""
        for name in ("model", "data"):
            nodes: NodesConfig = getattr(self, name)
            if seconds_of(nodes.time) <= self.signal_seconds:
                yield (
                    f"{name}.time={nodes.time}: the signal to checkpoint comes signal_seconds={self.signal_seconds} "
                    "before it, when the job starts; give it more time"
                )
        wrong = [name for name in self.variables if not VARIABLE.fullmatch(name)]
        if wrong:
            yield f"variables: {wrong[0]!r} is no name of an environment variable; letters, digits and _ only"
        if self.container is not None and self.venv is not None:
            yield f"venv={self.venv!r} beside a container, which has its own `redone`; leave one of them out"
