"""When one of two ranks stops answering, the other one says in which collective it waits for it, and the run ends."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from megatron_redone.launch.processes import run_on_host

RANK = """
import os, signal, sys
from pathlib import Path
from megatron_redone.launch.environment import from_environ
from megatron_redone.parallel.config import ParallelConfig
from megatron_redone.parallel.context import build_context
from megatron_redone.training.watchdog import Watchdog

context = build_context(ParallelConfig(), **from_environ(os.environ).rendezvous())
with Watchdog(3.0, Path(sys.argv[1]), context.rank, context.world_size) as watchdog:
    for step in range(3):
        if step == 2 and context.rank == 1:
            os.kill(os.getpid(), signal.SIGSTOP)
        context.maximum(step)
        watchdog.beat()
"""


@pytest.mark.distributed
def test_a_stopped_rank_is_found(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    code = run_on_host([sys.executable, "-c", RANK, str(tmp_path / "stacks")], 2, os.environ, grace_seconds=2.0)
    said = capfd.readouterr().err
    assert code == 70  # a launcher may start it again
    assert "rank 0 waits in all_reduce, called from maximum (context.py:" in said
    assert "rank 1 left no stack" in said
    assert "all_reduce" in (tmp_path / "stacks" / "rank-0.txt").read_text()
    assert signal.SIGSTOP  # the stopped rank is ended by SIGKILL, which it cannot ignore
