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


def run_program(
    program: Path, stdin: Path | None, wall_seconds: float, memory: str, backend: str | None, unsafe: bool
) -> None:
    """Runs the file in a box and prints the result.

    Raises:
        InputError: no such file, or one that is too long; a time or an amount of memory that cannot be given; an
            unknown backend.
        SandboxUnavailableError: no box is safe here.
    """
    limits = Limits(wall_seconds=wall_seconds, memory_bytes=memory_bytes(memory))
    if backend == "unsafe" and not unsafe:
        raise InputError("backend 'unsafe' protects nothing; ask for it by --unsafe alone")
    source = _content(program, limits.source_bytes)
    given = b"" if stdin is None else _content(stdin, limits.stdin_bytes)
    with Sandbox("unsafe" if unsafe else backend, limits, workers=1) as sandbox:
        result = sandbox.run(Program(source, given))
    typer.echo(json.dumps(result.as_dict(), ensure_ascii=True, indent=1))


def memory_bytes(text: str) -> int:
    """`512M` as bytes.

    Raises:
        InputError: no such amount.
    """
    match = re.fullmatch(r"([0-9]{1,18})([KMG]?)i?B?", text.strip(), re.IGNORECASE)
    if match is None:
        raise InputError(f"memory {text!r} is no amount; write bytes, or a number with K, M or G such as 512M")
    return int(match[1]) * _UNITS[match[2].upper()]


def _content(path: Path, most: int) -> bytes:
    """The file, which may have no end (a device): no more is read than a box takes."""
    try:
        with path.open("rb") as file:
            content = file.read(most + 1)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    if len(content) > most:
        raise InputError(f"{path}: longer than the {most} bytes that a box takes; shorten it")
    return content
