"""A Slurm batch file whose array tasks each train their part of the proxy runs. Imports no torch."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from megatron_redone.common.errors import InputError

BATCH_FILE = """#!/bin/bash
# RegMix: the proxy runs of {settings}, in {tasks} parts.
# Submit:   sbatch {file}
# Again after a failure or the time limit: the same; parts that are done say so and end.
# Gather:   {gather}
#SBATCH --job-name=regmix
#SBATCH --array=0-{last}
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --cpus-per-task={cpus}
#SBATCH --time={time}
#SBATCH --signal=B:USR1@120
#SBATCH --output={out}/logs/%a.log
#SBATCH --open-mode=append
{directives}
# USR1 comes 120 s before the time limit: the run in progress is checkpointed, the command ends with code 75.
# `exec` puts the command in the place of this shell, so that the signal reaches it.
cd {folder} || exit 2
exec {command} "part=${{SLURM_ARRAY_TASK_ID}}/{tasks}" \\
    --out {out}/parts/"${{SLURM_ARRAY_TASK_ID}}"/proxies
"""


def batch_file(
    redone: Sequence[str],
    settings: Path,
    overrides: Sequence[str],
    tasks: int,
    out: Path,
    *,
    time: str,
    cpus: int,
    directives: Sequence[str],
    working_folder: Path,
) -> str:
    """The text of the batch file.

    Args:
        redone: program and first arguments of `redone`, as every node finds them.
        settings: YAML file of `regmix-proxies`.
        overrides: `key=value` settings that every task gets.
        tasks: array tasks; task i trains the runs i, i + tasks, ...
        out: folder for the file, logs and parts, on a file system that all nodes share.
        time: limit of a task, as Slurm writes it.
        cpus: cores of a task.
        directives: further options of sbatch, for example `--partition=gpu`.
        working_folder: where relative paths of overrides begin.

    Raises:
        InputError: no tasks, or an option that is none.
    """
    if tasks < 1:
        raise InputError(f"--tasks {tasks}: must be 1 or more")
    for directive in directives:
        if not directive.startswith("-") or "\n" in directive:
            raise InputError(f"--sbatch {directive!r}: must be an option of sbatch, for example --partition=gpu")
    proxies = [*redone, "curate", "regmix-proxies", str(settings), *overrides]
    gather = [*proxies, f"finished={out / 'parts'}", "--out", str(out / "proxies")]
    return BATCH_FILE.format(
        settings=settings,
        tasks=tasks,
        last=tasks - 1,
        file=shlex.quote(str(out / "array.sbatch")),
        gather=shlex.join(gather),
        cpus=cpus,
        time=time,
        out=shlex.quote(str(out)),
        folder=shlex.quote(str(working_folder)),
        directives="\n".join(f"#SBATCH {directive}" for directive in directives),
        command=shlex.join(proxies),
    )
