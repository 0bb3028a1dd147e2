"""The host's side of a server: pre-started boxes, one program in one box, a program and its tests in two."""

from __future__ import annotations

import contextlib
import os
import secrets
import selectors
import shutil
import socket
import struct
import subprocess
import tempfile
import time
from collections import deque
from dataclasses import dataclass

from megatron_redone.common.errors import SandboxUnavailableError
from megatron_redone.scoring.sandbox.backends import server_command
from megatron_redone.scoring.sandbox.exchange import (
    Box,
    as_bytes,
    gather,
    message,
    read_verdict,
    received,
    send,
    send_some,
)
from megatron_redone.scoring.sandbox.limits import Limits, RunResult, Status

_END_SECONDS = 5.0
_START_SECONDS = 60.0
_READY = b"R"
_EXCESSES = {
    "folder": "the work folder grew over its limits",
    "threads": "more threads than one program may have",
    "unseen": "the program could not be watched",
}


@dataclass(frozen=True)
class TestResult:
    """The verdict on a program: whether all its tests passed, and if not, why."""

    passed: bool
    reason: str
    wall_seconds: float

    __test__ = False  # not a class of tests, whatever pytest thinks of its name


class BoxServer:
    """A server process and its ready boxes. Used by one thread at a time.

    Args:
        backend: one of `BACKENDS`.
        limits: of each box.
        num_ready: boxes that wait ready-made.

    Raises:
        SandboxUnavailableError: it does not start on this machine.
    """

    def __init__(self, backend: str, limits: Limits, num_ready: int = 2) -> None:
        self.backend, self.limits = backend, limits
        self._ready: deque[Box] = deque()
        self._folder = "" if backend == "bubblewrap" else tempfile.mkdtemp(prefix="redone-box-")
        try:
            self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with theirs:
                started = server_command(backend, limits, self._folder, theirs.fileno())
                if started.user is not None:
                    os.chown(self._folder, started.user, started.user)
                self._process = _start(started.command, started.user, theirs.fileno())
            for _ in range(num_ready):
                self._ready.append(self._open())
        except BaseException:
            self.close()
            raise

    def run(self, source: str | bytes, stdin: bytes = b"", wall_seconds: float | None = None) -> RunResult:
        """Runs one program in a fresh box. Never raises for what a program is or does."""
        code = as_bytes(source)
        if len(code) > self.limits.source_bytes or len(stdin) > self.limits.stdin_bytes:
            what = (
                f"a program of {len(code)} bytes with {len(stdin)} bytes of input: at most {self.limits.source_bytes} "
                f"and {self.limits.stdin_bytes} are taken; it was not run"
            )
            return RunResult("error", None, "", what, 0.0, self.backend)
        box = self._take()
        try:
            return self._collect(
                box, message({"mode": "program"}, code, stdin), wall_seconds or self.limits.wall_seconds
            )
        finally:
            box.close()

    def test(self, program: str | bytes, setup: str, tests: list[str], entry_point: str = "") -> TestResult:
        """Runs tests in one box against a program in another; the tests' box alone knows the nonce and the values."""
        code = as_bytes(program)
        if len(code) > self.limits.source_bytes:
            return TestResult(False, f"a program of {len(code)} bytes; at most {self.limits.source_bytes} run", 0.0)
        nonce = secrets.token_hex(16)
        asked = {"mode": "tests", "setup": setup, "tests": tests, "entry_point": entry_point, "nonce": nonce}
        with contextlib.ExitStack() as stack:
            candidate, tester = self._take(), self._take()
            stack.callback(candidate.close)
            stack.callback(tester.close)
            start = time.monotonic()
            calls_in, calls_out = os.pipe()
            answers_in, answers_out = os.pipe()
            verdict_in, verdict_out = os.pipe()
            stack.callback(os.close, verdict_in)
            try:
                send(candidate, message({"mode": "candidate"}, code), [calls_in, answers_out])
                send(tester, message(asked), [answers_in, calls_out, verdict_out])
            finally:
                for descriptor in (calls_in, calls_out, answers_in, answers_out, verdict_out):
                    os.close(descriptor)
            answer = read_verdict(verdict_in, start + self.limits.wall_seconds)
        seconds = time.monotonic() - start
        if answer is None:
            return TestResult(False, f"timeout: not done after {self.limits.wall_seconds:g} s", seconds)
        if answer.get("nonce") != nonce:
            return TestResult(False, "the tests ended without a verdict", seconds)
        reason = str(answer.get("reason", "")).encode("utf-8", "backslashreplace").decode("utf-8")  # half characters
        return TestResult(answer.get("passed") is True, reason, seconds)

    def close(self) -> None:
        """Ends server and boxes, and waits until they are gone."""
        while self._ready:
            self._ready.pop().close()
        if hasattr(self, "_control"):
            with contextlib.suppress(OSError):
                self._control.shutdown(socket.SHUT_RDWR)
            self._control.close()
        if hasattr(self, "_process"):
            try:
                self._process.wait(_END_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            if self._process.stderr:
                self._process.stderr.close()
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _take(self) -> Box:
        """A ready box; the next one is started beside it."""
        self._ready.append(self._open())
        box = self._ready.popleft()
        box.lifeline.settimeout(_START_SECONDS)
        try:
            said = box.lifeline.recv(512)
        except OSError as error:
            said = str(error).encode()
        if said != _READY:
            box.close()
            why = said[4:].decode("utf-8", "replace") or self._last_words()
            raise SandboxUnavailableError(f"the {self.backend} sandbox makes no box: {why}")
        return box

    def _open(self) -> Box:
        ours, theirs = socket.socketpair()
        out_read, out_write = os.pipe()
        err_read, err_write = os.pipe()
        try:
            socket.send_fds(self._control, [b"box"], [theirs.fileno(), out_write, err_write])
        except OSError as error:
            Box(ours, out_read, err_read).close()
            raise SandboxUnavailableError(f"the {self.backend} sandbox ended: {self._last_words()}") from error
        finally:
            theirs.close()
            os.close(out_write)
            os.close(err_write)
        return Box(ours, out_read, err_read)

    def _last_words(self) -> str:
        if self._process.stderr is None:
            return ""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_END_SECONDS)
        os.set_blocking(self._process.stderr.fileno(), False)
        words = (self._process.stderr.read() or b"").decode("utf-8", "replace").strip().splitlines()
        return words[-1] if words else "it said nothing"

    def _collect(self, box: Box, asked: bytes, wall_seconds: float) -> RunResult:
        """Sends what is asked, gathers output, and waits for the end or a limit."""
        start = time.monotonic()
        deadline = start + wall_seconds
        output: dict[int, bytearray] = {box.stdout: bytearray(), box.stderr: bytearray()}
        report, status, rest = b"", "", memoryview(asked)
        with selectors.DefaultSelector() as selector:
            for descriptor in output:
                os.set_blocking(descriptor, False)
                selector.register(descriptor, selectors.EVENT_READ)
            box.lifeline.setblocking(False)
            selector.register(box.lifeline, selectors.EVENT_READ | selectors.EVENT_WRITE)
            while not status and not report:
                events = selector.select(max(0.0, deadline - time.monotonic()))
                if time.monotonic() >= deadline:
                    status = "timeout"
                for key, mask in events:
                    if key.fileobj is box.lifeline:
                        if mask & selectors.EVENT_WRITE:
                            rest = rest[send_some(box.lifeline, rest) :]
                            if not rest:
                                selector.modify(box.lifeline, selectors.EVENT_READ)
                        if mask & selectors.EVENT_READ:
                            report = received(box.lifeline) or b"?"
                    elif not gather(key.fd, output[key.fd]):
                        selector.unregister(key.fd)
                if sum(map(len, output.values())) > self.limits.output_bytes:
                    status = "output_limit"
        seconds = time.monotonic() - start
        for descriptor, data in output.items():  # what the program wrote before it ended
            while not status and len(data) <= self.limits.output_bytes and gather(descriptor, data) == "more":
                pass
        if not status and sum(map(len, output.values())) > self.limits.output_bytes:
            status = "output_limit"
        return self._result(status, report, output[box.stdout], output[box.stderr], seconds)

    def _result(self, status: str, report: bytes, out: bytearray, err: bytearray, seconds: float) -> RunResult:
        limit = self.limits.output_bytes
        stdout = bytes(out[:limit]).decode("utf-8", "backslashreplace")
        stderr = bytes(err[: max(0, limit - len(out))]).decode("utf-8", "backslashreplace")
        exit_code: int | None = None
        ended: Status = "killed"
        if status in ("timeout", "output_limit"):
            ended = "timeout" if status == "timeout" else "output_limit"
        elif len(report) >= 4:
            wait_status, note = struct.unpack(">i", report[:4])[0], report[4:].decode("utf-8", "replace")
            if wait_status < 0:
                raise SandboxUnavailableError(f"the {self.backend} sandbox: {note}")
            exit_code = os.waitstatus_to_exitcode(wait_status)
            ended = _ending(exit_code, stderr)
            if note in _EXCESSES:
                ended, stderr = "killed", f"{stderr}{_EXCESSES[note]}\n"
        return RunResult(ended, exit_code, stdout, stderr, round(seconds, 6), self.backend)


def _ending(exit_code: int, stderr: str) -> Status:
    """What an exit code says, and Python's own last line where memory was refused."""
    if exit_code == -24:  # SIGXCPU
        return "timeout"
    if exit_code < 0:
        return "killed"
    last = stderr.rstrip().rpartition("\n")[2]
    if exit_code and last.startswith("MemoryError"):
        return "memory"
    return "error" if exit_code else "ok"


def _start(command: list[str], user: int | None, control: int) -> subprocess.Popen[bytes]:
    """The server, with the control socket and nothing of this process's environment."""
    environment = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "PYTHONHASHSEED": "0"}
    groups: list[int] | None = None if user is None else []
    return subprocess.Popen(
        command, user=user, group=user, extra_groups=groups, env=environment, cwd="/", pass_fds=[control],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
