"""`redone`: the command line. One file a command; this one ties them together and turns errors into exit codes."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Sequence

from megatron_redone.common.errors import RedoneError
from megatron_redone.common.logging import CONSOLE, configure_logging
from megatron_redone.launch.processes import end_with_launcher
from megatron_redone.launch.threads import device_kind, process_settings, reexec_with


def main(arguments: Sequence[str] | None = None, program: str = "redone") -> int:
    """Runs a command and returns its exit code: 0 done, 1 failed, 2 bad input, 75 start it again, 130 interrupted.

    Args:
        arguments: those of the command line by default.
        program: what the usage text calls the command.
    """
    import os

    if signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # until a command listens to it: by default it would kill
    end_with_launcher(os.environ)
    reexec_with(process_settings(device_kind(os.environ)))
    from megatron_redone.cli.app import app

    configure_logging()
    try:
        app(args=list(arguments) if arguments is not None else None, prog_name=program)
    except RedoneError as error:
        CONSOLE.print(f"[bold red]{type(error).__name__}[/]: ", end="")
        CONSOLE.print(str(error), markup=False, highlight=False, soft_wrap=True)
        return error.exit_code
    except SystemExit as end:  # how typer ends every command: its own usage errors, Ctrl-C and `typer.Exit` among them
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        if code == 130:
            CONSOLE.print("stopped; the same command goes on from the last checkpoint")
        return code
    return 0


if __name__ == "__main__":
    sys.exit(main())
