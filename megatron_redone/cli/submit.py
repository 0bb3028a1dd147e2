"""`redone submit`: a recipe as jobs of a Slurm cluster."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.table import Table

from megatron_redone.common.errors import ConfigError, InputError
from megatron_redone.common.logging import CONSOLE
from megatron_redone.config.loading import load_yaml, validate
from megatron_redone.launch.processes import redone_command
from megatron_redone.launch.slurm.batch_file import Job, Place
from megatron_redone.launch.slurm.config import ClusterConfig
from megatron_redone.launch.slurm.submission import submit, write_batch_files
from megatron_redone.recipes.graph import Recipe, load_recipe
from megatron_redone.recipes.jobs import jobs_of


def submit_recipe(
    path: Path, overrides: Sequence[str], profile: Path, nodes: Sequence[str], array_tasks: int, dry_run: bool
) -> None:
    """Checks recipe and profile, writes the batch files, and unless it is a dry run submits them.

    Raises:
        ConfigError: everything that is wrong with both, before anything is written.
        InputError: Slurm refused; nothing of the run stays in the queue.
    """
    cluster = validate(ClusterConfig, load_yaml(profile), str(profile))
    recipe = load_recipe(path, overrides)
    place = place_of(recipe)
    missing = node_problems(cluster, place)
    if missing:
        raise ConfigError(missing)
    jobs = jobs_of(recipe, overrides, cluster, place, read_nodes(nodes), array_tasks)
    if not jobs:
        _say(f"{recipe.config.output}: every stage is done; nothing to submit")
        return
    if dry_run:
        paths = write_batch_files(jobs, cluster, place)
        _show(jobs, {})
        for written in paths:
            _say(f"written: {written}")
        _say("nothing was submitted (--dry-run)")
        return
    stages = {job.name: job.name for job in jobs if job.name in recipe.stages}
    submitted = submit(jobs, stages, cluster, place, os.environ)
    _show(jobs, {job.name: job.number for job in submitted})
    _say(f"batch files, events and logs: {place.state}")
    _say(f"follow it with: redone status {recipe.config.output}")


def place_of(recipe: Recipe) -> Place:
    """Where the jobs of a recipe run: the folder of this command, the recipe's output, this Python."""
    return Place(recipe.config.output.resolve(), Path.cwd(), recipe.path.resolve(), tuple(redone_command([])))


def read_nodes(texts: Sequence[str]) -> dict[str, int]:
    """`4` and `explore=8` as nodes by stage; "" stands for all others.

    Raises:
        InputError: no whole number of 1 or more.
    """
    found: dict[str, int] = {}
    for text in texts:
        stage, _, count = text.rpartition("=")
        if not count.isdecimal() or int(count) < 1:
            raise InputError(f"--nodes {text}: write a number of nodes, or STAGE=NUMBER for one stage")
        found[stage.strip()] = int(count)
    return found


def node_problems(cluster: ClusterConfig, place: Place) -> list[str]:
    """What the nodes will not find, as far as it can be seen from here: a shared venv or image file."""
    problems = []
    if cluster.venv is not None and not Path(cluster.venv, "bin", "redone").is_file():
        problems.append(
            f"venv={cluster.venv!r}: {cluster.venv}/bin/redone is not there; install the package into it, "
            "on a file system that all nodes see"
        )
    container = cluster.container
    is_file = container is not None and container.image.endswith((".sqsh", ".sif"))
    if container is not None and is_file and not Path(container.image).is_file():
        problems.append(f"container.image={container.image!r}: no such file; see slurm/images for how it is made")
    if container is None and cluster.venv is None and not Path(sys.executable).is_file():
        problems.append(f"{sys.executable}: this Python is gone; set `venv` in the profile")
    return problems


def _show(jobs: Sequence[Job], numbers: Mapping[str, str]) -> None:
    table = Table("job", "number", "nodes x ranks", "waits for", "limit")
    for job in jobs:
        size = f"{job.num_nodes} x {job.nodes.ranks_per_node}"
        if job.array:
            size = f"{job.array} tasks of {size}"
        if job.servers:
            size += f" + {job.servers.num_nodes} servers"
        table.add_row(job.name, numbers.get(job.name, ""), size, ", ".join(job.after), job.nodes.time)
    CONSOLE.print(table)


def _say(text: str) -> None:
    CONSOLE.print(text, markup=False, highlight=False, soft_wrap=True)
