"""How a process of the pool begins. Imports no torch, so that it begins quickly."""

from __future__ import annotations

import signal

from megatron_redone.launch.processes import end_with_parent


def start_worker(parent: int) -> None:
    """It ends with its parent, which alone listens to Ctrl-C and passes a stop on."""
    end_with_parent(parent)
    for number in (signal.SIGINT, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
