"""A process that no longer finishes steps ends and says where it stood; one that does is left alone."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

from megatron_redone.training.watchdog import EXIT_CODE, Watchdog, waits_in

HANGING = """
import sys, threading
from pathlib import Path
from megatron_redone.training.watchdog import Watchdog

def a_step_that_hangs():
    threading.Event().wait()

with Watchdog(0.5, Path(sys.argv[1]), rank=0, world_size=2) as watchdog:
    watchdog.beat()
    a_step_that_hangs()
"""


def test_a_hanging_process_ends_with_its_stack(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", HANGING, str(tmp_path / "stacks")], capture_output=True, text=True, timeout=120
    )
    assert ended.returncode == EXIT_CODE
    assert "no step was finished in 0 s; stacks of all threads in" in ended.stderr
    assert "rank 0 is in wait (threading.py:" in ended.stderr and "rank 1 left no stack" in ended.stderr
    assert "a_step_that_hangs" in (tmp_path / "stacks" / "rank-0.txt").read_text()


def test_beats_keep_it_quiet(tmp_path: Path) -> None:
    done = threading.Event()
    with Watchdog(60.0, tmp_path, 0, 1) as watchdog:
        for _ in range(3):
            watchdog.beat()
        done.set()
    assert list(tmp_path.iterdir()) == [] and done.is_set()
    assert watchdog._thread is not None and not watchdog._thread.is_alive()


def test_nothing_is_watched_without_a_limit(tmp_path: Path) -> None:
    with Watchdog(None, tmp_path, 0, 1) as watchdog:
        watchdog.beat()
    assert watchdog._thread is None


def test_the_collective_is_named() -> None:
    assert waits_in(threading.get_ident()).startswith("is in ")
    assert waits_in(None) == "has no main thread any more"
