"""A job of a run and its batch file, written to be read. Imports no torch."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from megatron_redone.launch.slurm.config import ClusterConfig, NodesConfig

BATCH_FILE = "job.sbatch"
FUNCTIONS = "job.sh"
ROLLOUT_PORT = 8600


@dataclass(frozen=True)
class Servers:
    """Rollout servers of a job: one a node, on nodes of their own."""

    nodes: NodesConfig
    num_nodes: int
    model: str
    """Folder of the model that they begin with."""
    settings: tuple[str, ...]
    """`key=value` of the section `generation`."""
    stage: str
    """Whose `generation.servers` gets their addresses."""


@dataclass(frozen=True)
class Job:
    """One job of a run: a stage, an array of parts of it, or what gathers them."""

    name: str
    """Also the name of its folder."""
    says: str
    """What it does, for the first line of its batch file."""
    nodes: NodesConfig
    num_nodes: int
    command: tuple[str, ...]
    """Arguments of `redone`; `{task}` stands for the number of the array's task."""
    after: tuple[str, ...] = ()
    """Jobs that must be done first."""
    array: int | None = None
    """Number of tasks, each a job of its own."""
    servers: Servers | None = None

    @property
    def num_ranks(self) -> int:
        """Processes of the job, servers not counted."""
        return self.num_nodes * self.nodes.ranks_per_node


@dataclass(frozen=True)
class Place:
    """Where jobs run and leave their files; all paths are seen by every node."""

    run: Path
    """Folder of the run."""
    working_folder: Path
    """Where relative paths of a command begin."""
    recipe: Path
    redone: tuple[str, ...]
    """How `redone` is started without a container."""

    @property
    def state(self) -> Path:
        """Folder of everything about the jobs."""
        return self.run / "slurm"

    def folder(self, job: str) -> Path:
        """Folder of a job: batch file, events, logs."""
        return self.state / job


def functions() -> str:
    """The text of `job.sh`."""
    return (resources.files("megatron_redone.launch.slurm") / FUNCTIONS).read_text(encoding="utf-8")


def batch_file(job: Job, cluster: ClusterConfig, place: Place) -> str:
    """The text of the job's batch file."""
    folder = place.folder(job.name)
    head = list(_directives(job, job.nodes, job.num_nodes, cluster))
    log = folder / ("%a.log" if job.array else "job.log")
    lines = [
        "#!/bin/bash",
        f"# {job.says}",
        "# Written by `redone submit`. It can be submitted by hand as well; what it has trained stays.",
        f"#SBATCH --job-name={place.run.name}.{job.name}",
        *([f"#SBATCH --array=0-{job.array - 1}"] if job.array else []),
        *(f"#SBATCH {option}" for option in head),
        f"#SBATCH --output={log}",
        "#SBATCH --open-mode=append",
        "#SBATCH --requeue",
        f"#SBATCH --signal=B:USR1@{cluster.signal_seconds}",
        "#SBATCH --kill-on-invalid-dep=yes",
    ]
    if job.servers is not None:
        servers = job.servers
        more = _directives(job, servers.nodes, servers.num_nodes, cluster)
        lines += ["#SBATCH hetjob", *(f"#SBATCH {option}" for option in more)]
    lines += [
        "",
        f"RUN_STATE={shlex.quote(str(place.state))} STATE={shlex.quote(str(folder))}",
        f"NODES={job.num_nodes} RANKS={job.nodes.ranks_per_node} CPUS={job.nodes.cpus_per_rank}",
        f"MAX_SIGNALS={cluster.requeue.after_signal} MAX_FAILURES={cluster.requeue.after_failure} "
        f"NODE_FAILURES={cluster.requeue.failures_of_node} WAIT_SECONDS={cluster.wait_seconds}",
        f"source {shlex.quote(str(place.state / FUNCTIONS))}",
        f"cd {shlex.quote(str(place.working_folder))} || exit 2",
        *cluster.setup,
        *(f"export {name}={shlex.quote(value)}" for name, value in _variables(job, cluster).items()),
        "begin",
        *(_server_lines(job.servers, cluster, place) if job.servers else []),
        _run_line(job, cluster, place),
        "",
    ]
    return "\n".join(lines)


def _directives(job: Job, nodes: NodesConfig, num_nodes: int, cluster: ClusterConfig) -> Iterator[str]:
    """Options of sbatch for nodes of one kind."""
    if nodes.partition is not None:
        yield f"--partition={nodes.partition}"
    if cluster.account is not None:
        yield f"--account={cluster.account}"
    if cluster.qos is not None:
        yield f"--qos={cluster.qos}"
    yield f"--nodes={num_nodes}"
    yield f"--ntasks-per-node={nodes.ranks_per_node}"
    yield f"--cpus-per-task={nodes.cpus_per_rank}"
    if nodes.gpus_per_node:
        kind = f"{nodes.gpu_type}:" if nodes.gpu_type else ""
        yield f"--gres=gpu:{kind}{nodes.gpus_per_node}"
    if nodes.memory_gib is not None:
        yield f"--mem={nodes.memory_gib}G" if nodes.memory_gib else "--mem=0"
    yield f"--time={nodes.time}"
    yield from nodes.sbatch


def _variables(job: Job, cluster: ClusterConfig) -> dict[str, str]:
    return {"OMP_NUM_THREADS": str(job.nodes.cpus_per_rank), **cluster.variables}


def srun_options(cluster: ClusterConfig, place: Place) -> list[str]:
    """Options of srun that put a step into the image."""
    if cluster.container is None or cluster.container.engine != "pyxis":
        return []
    mounts = ",".join(_mounts(cluster, place))
    return [
        f"--container-image={cluster.container.image}",
        f"--container-mounts={mounts}",
        f"--container-workdir={place.working_folder}",
    ]


def program(cluster: ClusterConfig, place: Place) -> list[str]:
    """How a process on a node starts `redone`."""
    if cluster.container is None:
        return [f"{cluster.venv}/bin/redone"] if cluster.venv is not None else list(place.redone)
    if cluster.container.engine == "pyxis":
        return ["redone"]
    binds = [option for mount in _mounts(cluster, place) for option in ("--bind", mount)]
    gpu = ["--nv"] if cluster.model.gpus_per_node else []
    inside = ["--pwd", str(place.working_folder), cluster.container.image, "redone"]
    return ["apptainer", "exec", *gpu, *binds, *inside]


def _mounts(cluster: ClusterConfig, place: Place) -> list[str]:
    """The user's mounts and the three folders that every command needs, each once."""
    assert cluster.container is not None
    own = [f"{folder}:{folder}" for folder in (place.working_folder, place.run, place.recipe.parent)]
    return list(dict.fromkeys([*cluster.container.mounts, *own]))


def _run_line(job: Job, cluster: ClusterConfig, place: Place) -> str:
    options = srun_options(cluster, place)
    if job.servers is not None:
        options.append("--het-group=0")
    words = [*options, *(["--"] if options else []), *program(cluster, place), *job.command]
    line = "run " + " ".join(_word(word) for word in words)
    if job.servers is not None:
        section = f"{job.servers.stage}.generation"
        line += f' {section}.engine=servers "{section}.servers.urls=[$URLS]"'
        line += f' "{section}.servers.transfer_folder=$STATE/weights"'
    return line


def _word(word: str) -> str:
    """A word of the command; the number of an array's task is filled in by the shell."""
    if "{task}" not in word:
        return shlex.quote(word)
    return '"' + word.replace("{task}", "$SLURM_ARRAY_TASK_ID") + '"'


def _server_lines(servers: Servers, cluster: ClusterConfig, place: Place) -> Sequence[str]:
    """Starts one server on each node of the second component; the ranks wait for them to answer."""
    command = [*program(cluster, place), "serve", servers.model, *servers.settings]
    options = " ".join(shlex.quote(option) for option in srun_options(cluster, place))
    return [
        'mkdir -p "$STATE/weights"',
        "URLS=",
        'for node in $(scontrol show hostnames "$SLURM_JOB_NODELIST_HET_GROUP_1"); do',
        f'  URLS+="${{URLS:+,}}http://$(address "$node"):{ROLLOUT_PORT}"',
        "done",
        f"srun --het-group=1 --ntasks={servers.num_nodes} --ntasks-per-node=1 --export=ALL {options} \\".replace(
            "  \\", " \\"
        ),
        '  --output="$LOGS/server-%t.log" bash -c \'trap "" USR1; exec "$@"\' server \\',
        f"  {shlex.join(command)} \\",
        f'  --host 0.0.0.0 --port {ROLLOUT_PORT} --transfer-folder "$STATE/weights" 2>>"$LOGS/servers.log" &',
    ]
