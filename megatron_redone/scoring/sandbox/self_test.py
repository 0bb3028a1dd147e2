"""Before a backend is used, it has to hold a few attacks and to let an ordinary program work."""

from __future__ import annotations

import socket
import tempfile
from pathlib import Path

from megatron_redone.common.errors import SandboxUnavailableError
from megatron_redone.scoring.sandbox.boxes import BoxServer
from megatron_redone.scoring.sandbox.limits import Limits

LIMITS = Limits(
    wall_seconds=20.0, memory_bytes=256 << 20, folder_files=200, folder_bytes=16 << 20, output_bytes=1 << 16
)

BENIGN = """
import json, math, os, sys
given = sys.stdin.read()
block = bytearray(64 << 20)
with open("note.txt", "w") as file:
    file.write(given * 2)
environment = sorted(set(os.environ) - {'LC_CTYPE'})
print(json.dumps([open("note.txt").read(), math.gcd(12, 18), len(block) >> 20, environment]))
sys.exit(7)
"""
BENIGN_OUTPUT = '["abab", 6, 64, ["HOME", "LANG", "PATH", "PYTHONHASHSEED", "TMPDIR"]]'

ATTEMPTS = {
    "read a file of the host": "open({secret!r}).read()",
    "write a file of the host": "open({folder!r} + '/new', 'w')",
    "change the rights of a file of the host": "os.chmod({secret!r}, 0o777)",
    "cut a file of the host": "os.truncate({secret!r}, 0)",
    "read the password file": "open('/etc/passwd').read()",
    "connect to the host": "socket.create_connection(('127.0.0.1', {port}), 1)",
    "make a datagram socket": "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', {port}))",
    "fork": "os.fork() or os._exit(0)",
    "execute": "os.execv('/bin/true', ['true'])",
    "signal its parent": "os.kill(os.getppid(), 0) if os.getppid() else os.kill(1, 0)",
    "trace its parent": "1 / (1 + libc.ptrace(16, os.getppid(), 0, 0))",
    "keep a key": "1 / (1 + libc.syscall(250, 0, -3, 1))",
    "make a namespace": "1 / (1 + libc.unshare(0x10000000))",
    "write a kernel setting": "open('/proc/sys/kernel/core_pattern', 'w')",
    "fill its folder with files": "[open(str(n), 'w').close() for n in range(20_000)]",
}
"""Expressions; each must raise, or end the program."""
NUM_WALLS = 7
"""The first of them, which ask for files and the network."""

_TRIED = """
import ctypes, os, socket, sys
libc = ctypes.CDLL(None)
try:
    {attempt}
except Exception as error:
    sys.exit(0)
print("ESCAPED", flush=True)
"""

LIMIT_PROBES = {
    "timeout": "import time\nwhile True: time.sleep(1)",
    "memory": "held = [bytearray(16 << 20) for _ in range(64)]",
    "output_limit": "while True: print('x' * 1000)",
}
"""Programs that must end at that limit."""

SQUARE = "def square(x):\n    return x * x\n"
SQUARE_TESTS = ["assert square(7) == 49"]
FORGERIES = {
    "a wrong program": "def square(x):\n    return 48\n",
    "a program that ends with success": "import os\nprint('PASSED', flush=True)\nos._exit(0)\n",
}


def self_test(backend: str, walls_only: bool = False) -> list[str]:
    """What the backend lets through or prevents wrongly, in sentences; empty where all is well.

    Args:
        backend: one of `BACKENDS`.
        walls_only: only the attempts at reading and writing files and at the network.
    """
    try:
        with (
            tempfile.TemporaryDirectory(prefix="redone-self-test-") as name,
            socket.create_server(("127.0.0.1", 0)) as host,
        ):
            folder = Path(name)
            folder.chmod(0o777)
            secret = folder / "secret.txt"
            secret.write_text("secret", encoding="utf-8")
            secret.chmod(0o666)
            server = BoxServer(backend, LIMITS)
            try:
                return [
                    *_benign_problems(server),
                    *_escapes(
                        server, {"secret": str(secret), "folder": name, "port": host.getsockname()[1]}, walls_only
                    ),
                    *([] if secret.read_text(encoding="utf-8") == "secret" else ["a file of the host was changed"]),
                ]
            finally:
                server.close()
    except SandboxUnavailableError as error:
        return [str(error)]
    except OSError as error:
        return [f"{type(error).__name__}: {error}"]


def _benign_problems(server: BoxServer) -> list[str]:
    result = server.run(BENIGN, b"ab")
    problems = []
    if result.exit_code != 7 or result.stdout.strip() != BENIGN_OUTPUT:
        problems.append(f"an ordinary program gave {result.status}, {result.stdout[:200]!r}, {result.stderr[-200:]!r}")
    verdict = server.test(SQUARE, "", SQUARE_TESTS, "square")
    return problems if verdict.passed else [*problems, f"a right program failed its test: {verdict.reason}"]


def _escapes(server: BoxServer, places: dict[str, str | int], walls_only: bool) -> list[str]:
    problems = []
    for name, attempt in list(ATTEMPTS.items())[: NUM_WALLS if walls_only else None]:
        result = server.run(_TRIED.format(attempt=attempt.format(**places)))
        if "ESCAPED" in result.stdout or (result.status not in ("ok", "killed")):
            problems.append(f"a program could {name} ({result.status})")
    if walls_only:
        return problems
    for status, program in LIMIT_PROBES.items():
        result = server.run(program, wall_seconds=0.2 if status == "timeout" else None)
        if result.status != status:
            problems.append(f"the limit {status} did not hold: {result.status}")
    for name, program in FORGERIES.items():
        if server.test(program, "", SQUARE_TESTS, "square").passed:
            problems.append(f"{name} passed its test")
    return problems
