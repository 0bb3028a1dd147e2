"""A stop that all ranks agree on: Ctrl-C, a signal of the batch system, or a limit of time.

Training stages look for it after every step, write a checkpoint and end. The exit code tells a launcher what to do:
130 after Ctrl-C, 75 after anything else ("checkpointed, start me again").
"""

from __future__ import annotations

import signal
import threading
from types import FrameType

from megatron_redone.common.errors import Interrupted, Preempted
from megatron_redone.parallel.context import ParallelContext

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)

_signal = 0


def request_stop(number: int = signal.SIGINT, _frame: FrameType | None = None) -> None:
    """Asks running stages to checkpoint and stop after the current step; the first request's signal counts."""
    global _signal
    _signal = _signal or number


def stop_signal() -> int:
    """The signal for which this process was asked to stop; 0 when it was not."""
    return _signal


def agreed_stop(context: ParallelContext) -> int:
    """The signal for which any rank was asked to stop, on all of them; 0 for none. A collective."""
    return context.maximum(_signal)


def stopped(message: str, number: int) -> Interrupted:
    """The error with which a run ends that was asked to stop."""
    return Interrupted(message) if number == signal.SIGINT else Preempted(message)


def install_stop_signals(minutes: float | None = None) -> None:
    """SIGINT, SIGTERM and SIGUSR1 stop after the current step from now on; a second Ctrl-C stops at once.

    Args:
        minutes: after so long the process asks itself to stop, as if SIGTERM had come.
    """

    def handle(number: int, frame: FrameType | None) -> None:
        if _signal and number == signal.SIGINT:
            raise KeyboardInterrupt
        request_stop(number)

    global _signal
    _signal = 0
    for known in STOP_SIGNALS:
        signal.signal(known, handle)
    if minutes is not None:
        timer = threading.Timer(minutes * 60, request_stop, [signal.SIGTERM])
        timer.daemon = True
        timer.start()
