"""Writes docs/sandbox_attacks.md: every attack of the tests, run on each backend as root and as an ordinary user.

    sudo PYTHONPATH=. .venv/bin/python tools/document_attacks.py

Started by root it runs both; started by a user, that user's half. It takes half a minute.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

from megatron_redone.common.files import atomic_write_bytes

REPOSITORY = Path(__file__).resolve().parents[1]
PAGE = REPOSITORY / "docs" / "sandbox_attacks.md"
BACKENDS = ("bubblewrap", "landlock")
USERS = {"root": [], "user": ["--as-nobody"]}

INTRODUCTION = """\
# Attacks on the sandbox

<!-- Written by tools/document_attacks.py. -->

Each program of `tests/unit/scoring/sandbox/attacks/` was run on each backend, started by root and by an ordinary user
(Linux {kernel}, {machine}). A word says how the program ended: `ok`, it came to its end and had reached nothing;
`error`, an exception ended it; `timeout`, `memory`, `output_limit`, the limit that ended it; `killed`, a signal, or the
limit of a watched folder; `failed`, a program that wanted to pass its test did not. What got out would stand here as
**ESCAPED**. After each run the host was looked at as well: listeners, files, canary process, System V objects, mounts,
control groups, processes that are left.

"""


def outcomes(backend: str, options: list[str]) -> dict[str, str]:
    """How each attack ended."""
    command = [sys.executable, "-m", "tests.unit.scoring.sandbox.contain", backend, *options]
    ended = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    found: dict[str, str] = json.loads(ended.stdout)
    return found


def attacks_page() -> str:
    """The whole page, from runs on this machine."""
    users = USERS if os.getuid() == 0 else {"user": []}
    columns = {(backend, user): outcomes(backend, options) for backend in BACKENDS for user, options in users.items()}
    names = [name for name in next(iter(columns.values())) if name != "host"]
    groups = list(dict.fromkeys(name.partition("/")[0] for name in names))
    heads = [f"{backend}, {user}" for backend, user in columns]
    lines = [
        f"| group | attacks | {' | '.join(f'held by {head}' for head in heads)} |",
        "|---" * (len(heads) + 2) + "|",
    ]
    for group in groups:
        own = [name for name in names if name.startswith(f"{group}/")]
        held = [sum("ESCAPED" not in found[name] for name in own) for found in columns.values()]
        lines.append(f"| {group} | {len(own)} | {' | '.join(map(str, held))} |")
    hosts = [found["host"] or "untouched" for found in columns.values()]
    lines += [f"| the host afterwards | | {' | '.join(hosts)} |", ""]
    lines += [f"| attack | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|"]
    for name in names:
        ends = ["**ESCAPED**" if "ESCAPED" in found[name] else found[name] for found in columns.values()]
        lines.append(f"| {name} | {' | '.join(ends)} |")
    kernel = ".".join(platform.release().split(".")[:2])
    return INTRODUCTION.format(kernel=kernel, machine=platform.machine()) + "\n".join(lines) + "\n"


if __name__ == "__main__":
    atomic_write_bytes(PAGE, attacks_page().encode("utf-8"))
    print(f"written: {PAGE.name}")
