"""What the processes of a pool do in tests."""

from __future__ import annotations

import os
import signal
from pathlib import Path


def act(item: str) -> str:
    """Doubles an item, unless it names a fault."""
    if item == "hang":
        while True:
            pass
    if item == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if item == "raise":
        raise ValueError("a fault of this item")
    if item == "memory":
        return "x" * len(bytearray(64 << 30))
    if item.startswith("mark "):
        Path(item.removeprefix("mark ")).write_text(str(os.getpid()), encoding="utf-8")
    return item * 2


def instead(item: str, reason: str) -> str:
    return f"{item}: {reason}"
