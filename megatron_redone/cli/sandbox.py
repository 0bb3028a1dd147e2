"""`redone sandbox run`."""

from __future__ import annotations

import json
import re
from pathlib import Path

import typer

from megatron_redone.common.errors import InputError
from megatron_redone.scoring.sandbox.limits import Limits
from megatron_redone.scoring.sandbox.pool import Program, Sandbox

_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
MIN_MEMORY_BYTES, MAX_MEMORY_BYTES = 64 << 20, 1 << 44


def run_program(program: Path, stdin: Path | None, wall_seconds: float, memory: str, backend: str | None) -> None:
    """Runs the file in a box and prints the result.

    Raises:
        InputError: no such file, an amount of memory that cannot be read, an unknown backend.
        SandboxUnavailableError: no box is safe here.
    """
    source, given = _content(program), b"" if stdin is None else _content(stdin)
    limits = Limits(wall_seconds=wall_seconds, memory_bytes=memory_bytes(memory))
    with Sandbox(backend, limits, workers=1) as sandbox:
        result = sandbox.run(Program(source, given))
    typer.echo(json.dumps(result.as_dict(), ensure_ascii=True, indent=1))


def memory_bytes(text: str) -> int:
    """`512M` as bytes.

    Raises:
        InputError: no such amount, less than an interpreter needs, or more than the kernel takes as a limit.
    """
    match = re.fullmatch(r"(\d+)([KMG]?)i?B?", text.strip(), re.IGNORECASE)
    if match is None:
        raise InputError(f"memory {text!r} is no amount; write bytes, or a number with K, M or G such as 512M")
    amount = int(match[1]) * _UNITS[match[2].upper()]
    if amount < MIN_MEMORY_BYTES:
        raise InputError(f"memory {text!r} is less than an interpreter needs; give at least {MIN_MEMORY_BYTES >> 20}M")
    if amount > MAX_MEMORY_BYTES:
        raise InputError(f"memory {text!r} is more than any box gets; give at most {MAX_MEMORY_BYTES >> 30}G")
    return amount


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check the path") from error
