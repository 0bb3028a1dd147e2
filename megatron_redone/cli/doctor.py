"""`redone doctor`: what is wrong with this host for this library, and what mends it."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from megatron_redone.common.logging import CONSOLE

COLOURS = {"ok": "green", "warning": "yellow", "error": "bold red", "skipped": "dim"}


def doctor_command(
    folder: Annotated[Path, typer.Option(help="Where runs will go: its file system is tried.")] = Path("runs"),
    in_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
    nccl: Annotated[
        bool, typer.Option("--nccl", help="Measure all-reduce over all ranks instead (gloo on CPUs).")
    ] = False,
    nproc: Annotated[int, typer.Option("--nproc", min=1, help="With --nccl outside of Slurm: processes here.")] = 1,
) -> None:
    """Look at this host: versions, GPUs, interconnect, file system, Slurm, ports, clocks, sandbox, hub.

    Every finding says what mends it. The exit code is 1 when something will not work. Inside an allocation
    (`salloc -N2`) the clocks of its nodes are compared, and `--nccl` starts a rank a GPU (or a core) on each.
    """
    if nccl:
        raise typer.Exit(_all_reduce(in_json, nproc))
    from megatron_redone.verification.doctor.findings import exit_code
    from megatron_redone.verification.doctor.look import look

    findings = []
    for finding in look(folder, os.environ):
        findings.append(finding)
        if not in_json:
            CONSOLE.print(f"[{COLOURS[finding.level]}]{finding.level:8}[/]", end="")
            CONSOLE.print(f"{finding.area:13}{finding.found}", markup=False, highlight=False, soft_wrap=True)
            if finding.mend and finding.level != "ok":
                CONSOLE.print(f"{'':21}mend: {finding.mend}", markup=False, highlight=False, soft_wrap=True)
    if in_json:
        typer.echo(json.dumps([finding.as_dict() for finding in findings], indent=2))
    raise typer.Exit(exit_code(findings))


def _all_reduce(in_json: bool, nproc: int) -> int:
    """Starts the ranks where there are none yet, else measures as one of them."""
    from megatron_redone.launch.environment import from_environ
    from megatron_redone.launch.processes import redone_command, run_on_host

    arguments = ["doctor", "--nccl", *(["--json"] if in_json else [])]
    in_allocation = "SLURM_JOB_ID" in os.environ and "SLURM_STEP_ID" not in os.environ
    if in_allocation and "RANK" not in os.environ:
        command, environ = _through_srun(redone_command(arguments), os.environ)
        return subprocess.run(command, env=environ, check=False).returncode
    place = from_environ(os.environ)
    if place.world_size == 1 and nproc > 1:
        return run_on_host(redone_command(arguments), nproc, os.environ)
    if place.world_size == 1:
        _say("one rank reduces with nobody: give --nproc 2, or start it in an allocation (salloc -N2)")
        return 2
    from megatron_redone.parallel.config import ParallelConfig
    from megatron_redone.parallel.context import build_context, left_together
    from megatron_redone.verification.doctor.all_reduce import all_reduce_times

    with left_together(place.world_size):
        context = build_context(ParallelConfig(), **place.rendezvous())
        rows = list(all_reduce_times(context))
    if place.is_main and in_json:
        typer.echo(json.dumps([vars(row) | {"bus_gb_per_second": row.bus_gb_per_second} for row in rows], indent=2))
    elif place.is_main:
        _say(f"all-reduce over {place.world_size} ranks, {context.device.type}, fp32, median of the slowest rank")
        for row in rows:
            marks = "" if row.is_steady else "  uneven: a repeat took far longer; is the network shared or failing?"
            marks += "" if row.right else "  WRONG SUMS: do not train here"
            speed = f"{row.algorithm_gb_per_second:8.2f} GB/s, bus {row.bus_gb_per_second:8.2f} GB/s"
            _say(f"{row.mib:6} MiB  {row.median_seconds * 1e3:9.2f} ms  {speed}{marks}")
    return 0 if all(row.right for row in rows) else 1


def _through_srun(command: list[str], environ: Mapping[str, str]) -> tuple[list[str], dict[str, str]]:
    """The command as one rank a GPU, or a task of the allocation, with the address that ranks meet at."""
    from megatron_redone.launch.slurm.commands import call

    head = call("scontrol", "show", "hostnames", environ["SLURM_JOB_NODELIST"]).split()[0]
    node = call("scontrol", "-o", "show", "node", head)
    address = next((word.partition("=")[2] for word in node.split() if word.startswith("NodeAddr=")), head)
    tasks = environ.get("SLURM_GPUS_ON_NODE") or environ.get("SLURM_NTASKS_PER_NODE", "1")
    srun = ["srun", "--overlap", f"--nodes={environ['SLURM_NNODES']}", f"--ntasks-per-node={tasks}"]
    srun.append(f"--ntasks={int(tasks) * int(environ['SLURM_NNODES'])}")
    _say(shlex.join([*srun, "redone", *command[command.index("doctor") :]]))
    port = 20_000 + int(environ["SLURM_JOB_ID"]) % 20_000
    return [*srun, *command], {**environ, "MASTER_ADDR": address, "MASTER_PORT": str(port)}


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
