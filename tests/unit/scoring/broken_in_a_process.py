"""A module that a process which is started with `BREAK` set cannot import."""

from __future__ import annotations

import os

BREAK = "REDONE_TEST_BREAK"

if BREAK in os.environ:
    raise SystemExit(3)


def act(item: str) -> str:
    return item
