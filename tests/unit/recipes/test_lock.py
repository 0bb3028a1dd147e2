"""Two runs never work in one folder; a forked child of a finished run does not keep it closed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from megatron_redone.common.errors import InputError
from megatron_redone.recipes.graph import Recipe
from megatron_redone.recipes.workspace import Workspace

HOLD = """
import fcntl, sys
file = open(sys.argv[1], "w")
fcntl.lockf(file, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""
FORK = """
import os, sys
from pathlib import Path
from megatron_redone.recipes.graph import Recipe
from megatron_redone.recipes.workspace import Workspace

folder = Path(sys.argv[1])
with Workspace(Recipe(folder / "recipe.yaml", None, {}, []), folder).locked():
    child = os.fork()
    if child == 0:
        sys.stdin.read()
        os._exit(0)
print("the child lives", flush=True)
os.waitpid(child, 0)
"""
REPOSITORY = Path(__file__).parents[3]


def workspace(folder: Path) -> Workspace:
    return Workspace(Recipe(folder / "recipe.yaml", None, {}, []), folder)  # type: ignore[arg-type]


def test_a_second_run_is_refused_until_the_first_is_gone(tmp_path: Path) -> None:
    with workspace(tmp_path).locked():
        pass
    other = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / ".lock")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert other.stdout is not None and other.stdout.readline() == b"held\n"
    with pytest.raises(InputError, match="another run works in this folder"), workspace(tmp_path).locked():
        pass
    other.communicate()
    with workspace(tmp_path).locked():
        pass


def test_a_stage_by_itself_keeps_others_out_of_its_own_folder_only(tmp_path: Path) -> None:
    (tmp_path / ".work").mkdir()
    other = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / ".work" / "kept.lock")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert other.stdout is not None and other.stdout.readline() == b"held\n"
    with pytest.raises(InputError, match="kept: another run works in this folder"), workspace(tmp_path).locked("kept"):
        pass
    with workspace(tmp_path).locked("tokens"):
        pass
    other.communicate()


def test_a_forked_child_of_a_finished_run_does_not_keep_the_folder(tmp_path: Path) -> None:
    run = subprocess.Popen(
        [sys.executable, "-c", FORK, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=REPOSITORY
    )
    assert run.stdout is not None and run.stdout.readline() == b"the child lives\n"
    with workspace(tmp_path).locked():
        pass
    run.communicate()
