"""One rank of `redone run tests/faults/recipe.yaml`, forked from a process that has imported everything already.

Importing takes seconds and is not what most fault tests are about. No launcher stands over a forked rank: when another
one is killed, it has to notice and end by itself.
"""

from __future__ import annotations

import ctypes
import os
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch.utils.tensorboard  # noqa: F401 - all of these before the fork

import megatron_redone.checkpoint.write
import megatron_redone.recipes.runner
import megatron_redone.reporting.html  # noqa: F401
from megatron_redone.cli.main import main
from megatron_redone.launch.processes import end_with_parent

PREEMPTED = 75


def enter_mounts(process: int) -> None:
    """Joins the namespaces in which another process has mounted something; this one has to have a single thread."""
    libc, folder = ctypes.CDLL(None, use_errno=True), os.getcwd()
    for kind in ("user", "mnt"):  # as its user one may join its mounts
        namespace = os.open(f"/proc/{process}/ns/{kind}", os.O_RDONLY)
        if libc.setns(namespace, 0) != 0:
            raise OSError(ctypes.get_errno(), f"cannot join the {kind} namespace of {process}")
    os.chdir(folder)


def run_rank(environ: Mapping[str, str], arguments: Sequence[str], log: Path, mounts_of: int | None) -> None:
    """Ends as `redone ARGUMENTS` does, started with `environ`; what it says is added to `log`.

    Args:
        mounts_of: a process whose file systems this one is to see.
    """
    end_with_parent(os.getppid())
    os.environ.update(environ)
    said = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(said, sys.stdout.fileno())
    os.dup2(said, sys.stderr.fileno())
    if mounts_of is not None:
        enter_mounts(mounts_of)
    warnings.simplefilter("ignore")
    sys.argv = ["redone", *arguments]
    code = main(arguments)
    if code in (0, PREEMPTED) and int(environ["WORLD_SIZE"]) > 1:
        sys.exit(code if not group_threads() else f"threads of groups are left: {group_threads()}")
    sys.exit(code)


def group_threads() -> list[str]:
    """Names of the threads that serve gloo's groups (Linux): one that works while Python ends aborts the process."""
    names = (path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm"))
    return [name for name in names if "gloo" in name]
