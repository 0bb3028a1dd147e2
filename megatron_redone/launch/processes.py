"""Several processes on one host: started together, stopped together, none left behind."""

from __future__ import annotations

import collections
import contextlib
import ctypes
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial

from megatron_redone.common.errors import InputError
from megatron_redone.launch.environment import LOCALHOST
from megatron_redone.launch.threads import device_kind, process_settings, with_settings

FORWARDED_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
# A rank that leaves with one of these has written its checkpoint; the others are about to do the same.
ORDERLY_EXITS = (0, 75, 130)
BAD_INPUT = 2
TORCHRUN_PREFIX = "TORCHELASTIC_"
KEPT_LINES = 60
GRACE_SECONDS = 10.0
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)  # loaded here: between fork and exec is no time for it


def redone_command(arguments: Sequence[str]) -> list[str]:
    """The command that runs `redone ARGUMENTS` with this Python."""
    return [sys.executable, "-m", "megatron_redone.cli", *arguments]


def run_on_host(
    command: Sequence[str], nproc: int, env: Mapping[str, str], grace_seconds: float = GRACE_SECONDS
) -> int:
    """Runs `command` as ranks 0 to `nproc` - 1 of one run on this host and waits for all of them.

    Rank 0 writes to our standard output and error. What the others write is kept (the last lines) and shown
    when one of them fails. SIGINT and SIGTERM go on to every rank, which may then write a checkpoint; after a
    second one the ranks have `grace_seconds` left. When a rank fails, the others are ended: SIGTERM, and
    SIGKILL after `grace_seconds`. When this process dies, the kernel kills the ranks (Linux). Must be called
    from the main thread.

    Args:
        command: program and arguments, for example `redone_command(["run", "recipe.yaml"])`.
        nproc: number of processes.
        env: their environment without the variables of a rank.
        grace_seconds: how long a rank may take to end after SIGTERM.

    Returns:
        0 when every rank ended with 0, else the exit code of the first rank that failed (128 + signal where a
        signal ended it), else that of the first orderly stop (75, 130).

    Raises:
        InputError: `nproc` is less than one.
    """
    if nproc < 1:
        raise InputError(f"--nproc {nproc}: must be at least 1; leave it out for one process")
    return _Ranks(command, nproc, env, grace_seconds).run()


def rank_environment(env: Mapping[str, str], rank: int, nproc: int, port: int) -> dict[str, str]:
    """The environment of one rank: torchrun's variables and its share of the host's cores."""
    settings = process_settings(device_kind(env), processes_on_host=nproc)
    place = {
        "RANK": rank,
        "LOCAL_RANK": rank,
        "WORLD_SIZE": nproc,
        "LOCAL_WORLD_SIZE": nproc,
        "MASTER_ADDR": LOCALHOST,
        "MASTER_PORT": port,
    }
    # What an outer torchrun says of its own store and restarts is not true of these ranks.
    env = {name: value for name, value in env.items() if not name.startswith(TORCHRUN_PREFIX)}
    return with_settings(env, settings) | {name: str(value) for name, value in place.items()}


def free_port() -> int:
    """A TCP port of this host that nobody listened on a moment ago."""
    with socket.socket() as listener:
        listener.bind((LOCALHOST, 0))
        return int(listener.getsockname()[1])


def end_with_parent(parent: int) -> None:
    """Asks the kernel to kill this process when its parent dies (Linux; elsewhere nothing happens).

    Args:
        parent: the parent's process id; if it is gone already, this process ends at once.
    """
    if sys.platform != "linux":
        return
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(128 + signal.SIGKILL)


def end_with_launcher(environ: Mapping[str, str]) -> None:
    """Asks the kernel to kill this process when the torchrun that started it dies (Linux).

    torchrun does not: when it is killed, its ranks train on beside those that are started in their place. Does nothing
    in a process that torchrun did not start (`run_on_host` sees to its own). The kernel watches the parent alone, so a
    shell script between torchrun and this command has to `exec` it.
    """
    if "RANK" in environ and TORCHRUN_PREFIX + "RUN_ID" in environ:
        end_with_parent(os.getppid())


def exit_code_of(returncode: int) -> int:
    """The shell's exit code for `Popen.returncode`, which is negative after a signal."""
    return returncode if returncode >= 0 else 128 - returncode


class _Ranks:
    """The processes of one `run_on_host`.

    Whatever happens wakes the main thread by a byte in one pipe: 0 for the end of a rank, else the number of
    a signal. A queue would not do: a signal that the kernel gives to another thread lets the main one sleep.
    """

    def __init__(self, command: Sequence[str], nproc: int, env: Mapping[str, str], grace_seconds: float) -> None:
        self.command, self.nproc, self.env, self.grace_seconds = list(command), nproc, env, grace_seconds
        self.processes: list[subprocess.Popen[str]] = []
        self.tails = [collections.deque[str](maxlen=KEPT_LINES) for _ in range(nproc)]
        self.watchers: list[threading.Thread] = []
        self.readers: list[threading.Thread] = []
        self.ended: collections.deque[int] = collections.deque()  # ranks, from the watchers to the main thread
        self.exit_codes: dict[int, int] = {}  # in the order in which the ranks ended
        self.ended_by_us: set[int] = set()
        self.deadline: float | None = None

    def run(self) -> int:
        """Starts all, waits for all, reports; returns the exit code."""
        with _wake_pipe() as (wake_reader, wake_writer), _signals_written_to(wake_writer):
            try:
                self._start(wake_writer)
                self._wait(wake_reader)
            finally:
                self._kill_rest()
                for watcher in self.watchers:
                    watcher.join()
        for reader in self.readers:
            reader.join(timeout=self.grace_seconds)  # something that left the rank's session may hold the pipe
        return self._report()

    def _start(self, wake_writer: int) -> None:
        port, parent = free_port(), os.getpid()
        for rank in range(self.nproc):
            # In a session of its own a rank gets the terminal's Ctrl-C once, from us, and its children can be
            # ended with it.
            process = subprocess.Popen(
                self.command,
                env=rank_environment(self.env, rank, self.nproc, port),
                stdin=subprocess.DEVNULL,
                stdout=None if rank == 0 else subprocess.PIPE,
                stderr=None if rank == 0 else subprocess.STDOUT,
                encoding="utf-8",
                errors="replace",
                start_new_session=True,
                preexec_fn=partial(end_with_parent, parent),
            )
            self.processes.append(process)
        for rank in range(self.nproc):  # after the last fork, so that no fork meets a thread of ours
            watcher = threading.Thread(target=self._await_end, args=(rank, wake_writer))
            watcher.start()
            self.watchers.append(watcher)
            if rank > 0:
                self.readers.append(threading.Thread(target=self._keep_tail, args=(rank,), daemon=True))
                self.readers[-1].start()

    def _await_end(self, rank: int, wake_writer: int) -> None:
        self.processes[rank].wait()
        self.ended.append(rank)
        os.write(wake_writer, b"\0")

    def _keep_tail(self, rank: int) -> None:
        stream = self.processes[rank].stdout
        assert stream is not None
        with stream:
            self.tails[rank].extend(stream)

    def _wait(self, wake_reader: int) -> None:
        """Until every rank has ended, or until the grace after the first failure or second signal is over."""
        num_signals = 0
        waiter = select.poll()
        waiter.register(wake_reader, select.POLLIN)
        while len(self.exit_codes) < self.nproc:
            left = None if self.deadline is None else max(0.0, self.deadline - time.monotonic())
            if not waiter.poll(None if left is None else left * 1000.0):  # poll: select refuses descriptors over 1023
                return
            for number in os.read(wake_reader, 512):
                if number == 0:
                    self._note_end(self.ended.popleft())
                elif number in FORWARDED_SIGNALS:
                    num_signals += 1
                    self._send(number)
                    if num_signals > 1:
                        self._start_grace()

    def _note_end(self, rank: int) -> None:
        self.exit_codes[rank] = exit_code_of(self.processes[rank].returncode)
        if self.exit_codes[rank] not in ORDERLY_EXITS and self.deadline is None:
            self._start_grace()
            self._send(signal.SIGTERM)

    def _start_grace(self) -> None:
        if self.deadline is None:
            self.deadline = time.monotonic() + self.grace_seconds

    def _send(self, number: int) -> None:
        """Sends a signal to the ranks that have not ended and to their children."""
        for rank, process in enumerate(self.processes):
            if rank not in self.exit_codes:
                self.ended_by_us.add(rank)
                _signal_group(process.pid, number)

    def _kill_rest(self) -> None:
        """Kills the ranks that are left, and what ended ranks left behind."""
        for rank, process in enumerate(self.processes):
            _signal_group(process.pid, signal.SIGKILL)
            if rank not in self.exit_codes:
                self.ended_by_us.add(rank)
                self.exit_codes[rank] = exit_code_of(process.wait())

    def _report(self) -> int:
        """Shows the output of the ranks that failed by themselves; chooses the exit code."""
        failed = {rank: code for rank, code in self.exit_codes.items() if code not in ORDERLY_EXITS}
        for rank, code in failed.items():
            by_our_signal = rank in self.ended_by_us and code in (128 + signal.SIGTERM, 128 + signal.SIGKILL)
            same_message_twice = code == BAD_INPUT and self.exit_codes[0] == BAD_INPUT
            spoke_for_itself = rank == 0 and _signal_of(code) is None
            if by_our_signal or same_message_twice or spoke_for_itself:
                continue
            end_of_output = "; the end of its output:" if self.tails[rank] else ""
            print(f"rank {rank} of {self.nproc} {_how_it_ended(code)}{end_of_output}", file=sys.stderr)
            for line in self.tails[rank]:
                print(f"  [rank {rank}] {line.rstrip()}", file=sys.stderr)
        stopped = [code for code in self.exit_codes.values() if code != 0]
        return next(iter(failed.values()), stopped[0] if stopped else 0)


def _signal_of(code: int) -> str | None:
    return next((known.name for known in signal.Signals if known == code - 128), None)


def _how_it_ended(code: int) -> str:
    by_signal = _signal_of(code)
    return f"was ended by {by_signal}" if by_signal else f"failed with exit code {code}"


def _signal_group(leader: int, number: int) -> None:
    """Signals the session of a rank; one that is empty by now is no error."""
    with contextlib.suppress(ProcessLookupError, PermissionError):  # macOS says the latter of a dead leader
        os.killpg(leader, number)


@contextlib.contextmanager
def _wake_pipe() -> Iterator[tuple[int, int]]:
    """A pipe (read end, write end) whose writers never block."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    try:
        yield reader, writer
    finally:
        os.close(reader)
        os.close(writer)


@contextlib.contextmanager
def _signals_written_to(writer: int) -> Iterator[None]:
    """Each of FORWARDED_SIGNALS that arrives writes its number into a pipe and does nothing else."""
    old_writer = signal.set_wakeup_fd(writer)
    old_handlers = {number: signal.signal(number, lambda number, frame: None) for number in FORWARDED_SIGNALS}
    try:
        yield
    finally:
        for number, handler in old_handlers.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(old_writer)
