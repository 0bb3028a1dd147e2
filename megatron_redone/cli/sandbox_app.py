"""The commands of `redone sandbox`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

sandbox_app = typer.Typer(help="Runs programs that a model wrote, in a box.", no_args_is_help=True)


@sandbox_app.callback()
def _sandbox() -> None:
    """Runs programs that a model wrote, in a box (docs/sandbox.md)."""


@sandbox_app.command("run")
def sandbox_run_command(
    program: Annotated[Path, typer.Argument(help="A Python program.")],
    stdin: Annotated[Path | None, typer.Option(help="File with its standard input.")] = None,
    wall_seconds: Annotated[float, typer.Option(min=0.01, help="Seconds until it is ended.")] = 4.0,
    memory: Annotated[str, typer.Option(help="Memory: bytes, or with K, M or G.")] = "512M",
    backend: Annotated[
        str | None, typer.Option(help="bubblewrap or landlock; by default the first that passes its self-test.")
    ] = None,
    unsafe: Annotated[
        bool, typer.Option("--unsafe", help="Run it with limits of time and memory alone: it can reach all you can.")
    ] = False,
) -> None:
    """Run one program and print, as JSON, how it ended.

    `status` is ok, error, timeout, memory, output_limit or killed; the others are exit_code, stdout, stderr,
    wall_seconds and backend. The exit code is 0 whatever the program did, and 2 where no sandbox is safe here.
    """
    from megatron_redone.cli.sandbox import run_program

    run_program(program, stdin, wall_seconds, memory, backend, unsafe)
