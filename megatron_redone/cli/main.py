"""`redone`: the command line. One file a command; this one ties them together and turns errors into exit codes."""

from __future__ import annotations

import signal
import sys
import threading
import traceback
from collections.abc import Sequence

from megatron_redone.common.errors import RedoneError
from megatron_redone.common.logging import CONSOLE, configure_logging
from megatron_redone.launch.processes import end_with_launcher
from megatron_redone.launch.threads import device_kind, process_settings, reexec_with

CRASHED = 70


def main(arguments: Sequence[str] | None = None, program: str = "redone") -> int:
    """Runs a command and returns its exit code: 0 done, 1 failed, 2 bad input, 75 start it again, 130 interrupted.

    70 says that torch failed below us: another rank or a device was lost, memory ran out. Trying again may help.

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
    except RuntimeError:  # torch's, of a lost connection or device; a bug of ours would come again
        traceback.print_exc()
        return CRASHED
    finally:
        if callable(signal.getsignal(signal.SIGUSR1)) and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # what comes now comes too late; by default it would kill
    return 0


if __name__ == "__main__":
    sys.exit(main())
