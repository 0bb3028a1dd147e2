"""Every attack is held by every backend, whoever starts the box."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from megatron_redone.scoring.sandbox.pool import problems_of_backend
from megatron_redone.scoring.sandbox.self_test import self_test
from tests.unit.scoring.sandbox.contain import GROUPS

REPOSITORY = Path(__file__).parents[4]
USERS = ["root", "user"] if os.getuid() == 0 else ["user"]
ENDS = {"ok", "error", "timeout", "memory", "output_limit", "killed", "failed"}


@pytest.mark.parametrize("user", USERS)
@pytest.mark.parametrize("backend", ["bubblewrap", "landlock"])
def test_no_attack_gets_out(backend: str, user: str) -> None:
    if problems_of_backend(backend):
        pytest.skip("; ".join(problems_of_backend(backend)))
    command = [sys.executable, "-m", "tests.unit.scoring.sandbox.contain", backend]
    command += ["--as-nobody"] if user == "user" else []
    ended = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr[-2000:]
    found = json.loads(ended.stdout)
    assert found.pop("host") == ""
    assert {name: end for name, end in found.items() if end not in ENDS} == {}
    assert len(found) == sum(map(len, GROUPS.values()))
    assert [found[f"processes/{name}"] for name in ("infinite_loop", "sleep", "ignore_signals")] == ["timeout"] * 3
    assert [found[f"memory/{name}"] for name in ("stdout_flood", "stderr_flood")] == ["output_limit"] * 2


def test_a_box_without_walls_fails_the_self_test() -> None:
    problems = self_test("unsafe", walls_only=True)
    assert "a program could read a file of the host (ok)" in problems
    assert "a program could connect to the host (ok)" in problems
    assert "a file of the host was changed" in problems
