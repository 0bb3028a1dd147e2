"""Slurm, ports, and clocks of the nodes. Imports no torch."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Iterator, Mapping

from megatron_redone.common.errors import InputError
from megatron_redone.launch.environment import FIRST_SLURM_PORT
from megatron_redone.launch.slurm import commands
from megatron_redone.verification.doctor.findings import Finding, error, ok, said, skipped, warning

ROLLOUT_PORT = 8600
MAX_SECONDS_APART = 2.0
"""Clocks further apart than this make merged logs and file times misleading."""


def look_at_slurm() -> Iterator[Finding]:
    """Whether the controller answers, and its partitions."""
    if shutil.which("sbatch") is None:
        yield skipped("slurm", "no sbatch: not a login node of a Slurm cluster")
        return
    version = (said("sbatch", "--version") or "").strip()
    answer = said("scontrol", "ping")
    if answer is None or "UP" not in answer:
        told = (answer or "no answer").strip()
        yield error("slurm", f"{version}; the controller: {told}", "ask the operators, or set SLURM_CONF")
        return
    yield ok("slurm", f"{version}; the controller answers")
    try:
        for name, (nodes, gpus, limit) in commands.partitions().items():
            kind = f"{gpus} GPUs a node" if gpus else "no GPUs"
            yield ok("slurm", f"partition {name}: {nodes} nodes, {kind}, limit {limit}")
    except InputError as problem:
        yield error("slurm", str(problem), "ask the operators")
    bad = [
        line for line in (said("sinfo", "-h", "-N", "-t", "down,drain,fail", "-o", "%N %T") or "").splitlines() if line
    ]
    if bad:
        yield warning("slurm", f"nodes that take no jobs: {', '.join(sorted(set(bad)))}", "`sinfo -R` says why")


def look_at_ports(ports: tuple[int, ...] = (FIRST_SLURM_PORT, ROLLOUT_PORT)) -> Iterator[Finding]:
    """Whether the ports of the rendezvous and of rollout servers can be listened on here."""
    for port in ports:
        with socket.socket() as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listener.bind(("", port))
            except OSError as problem:
                mend = "another job of this node has it; give --port, or set MASTER_PORT in `setup` of the profile"
                yield warning("network", f"port {port}: {problem.strerror}", mend)
                continue
        yield ok("network", f"port {port} is free")
    name = socket.gethostname()
    try:
        address = socket.gethostbyname(name)
    except OSError:
        yield warning("network", f"{name} has no address", "add the host to /etc/hosts or to the name service")
        return
    if address.startswith("127.") and not name.startswith("localhost"):
        yield warning(
            "network", f"{name} is {address}", "gloo may offer it to other nodes: set GLOO_SOCKET_IFNAME in the profile"
        )
    else:
        yield ok("network", f"{name} is {address}")


def look_at_clocks(environ: Mapping[str, str]) -> Iterator[Finding]:
    """How far the clocks of the allocation's nodes are apart; elsewhere whether this one is kept."""
    if "SLURM_JOB_ID" in environ and int(environ.get("SLURM_NNODES", "1")) > 1:
        text = said("srun", "--overlap", "--ntasks-per-node=1", "bash", "-c", "echo $SLURMD_NODENAME $(date +%s.%N)")
        times = [line.split() for line in (text or "").splitlines() if len(line.split()) == 2]
        if not times:
            yield error("network", "srun gave no times of the nodes", "try `srun hostname` in this allocation")
            return
        moments = [float(moment) for _, moment in times]
        apart = max(moments) - min(moments)
        told = f"clocks of {len(times)} nodes: {apart:.2f} s apart at most, the start of the processes included"
        yield (
            ok("network", told)
            if apart <= MAX_SECONDS_APART
            else warning("network", told, "look at chronyd on the nodes")
        )
        return
    kept = said("timedatectl", "show", "--property=NTPSynchronized", "--value")
    if kept is None:
        yield skipped("network", "clocks: no allocation of several nodes, and no timedatectl")
    elif kept.strip() == "yes":
        yield ok("network", "the clock is kept by a time server")
    else:
        yield warning("network", "the clock is not kept by a time server", "start chronyd or systemd-timesyncd")
