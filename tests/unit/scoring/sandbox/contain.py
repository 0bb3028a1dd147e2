"""Runs the attacks against a backend and says what got out: `python -m tests.unit.scoring.sandbox.contain BACKEND`.

The host offers what an attacker looks for: listeners (TCP, UDP, Unix, abstract), a folder with a secret and a victim
that everybody may write, a secret in the environment, and a canary process of the same user that one signal ends. An
attack got out if it prints ESCAPED, or if after all of them anything of that was touched or left.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import re
import select
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from megatron_redone.scoring.sandbox.backends import NOBODY
from megatron_redone.scoring.sandbox.limits import Limits
from megatron_redone.scoring.sandbox.pool import Program, Sandbox, TestedProgram
from tests.unit.scoring.sandbox.attacks import files, kernel, memory, network, processes, results

LIMITS = Limits(wall_seconds=0.4, memory_bytes=256 << 20, folder_bytes=32 << 20, folder_files=400)
GROUPS = {
    "network": network.ATTACKS,
    "files": files.ATTACKS,
    "processes": processes.ATTACKS,
    "memory": memory.ATTACKS,
    "kernel": kernel.ATTACKS,
    "results": {**results.ATTACKS, **results.OTHER_TESTS},
}
WORKERS = 6
_ESCAPED = re.compile("^ESCAPED", re.MULTILINE)
PREAMBLE = """
import ctypes, json, mmap, os, resource, signal, socket, sys, threading, time
P = json.load(sys.stdin)
N = P['calls']
libc = ctypes.CDLL(None, use_errno=True)
def escaped(how):
    print('ESCAPED', how, flush=True)
"""
X86_64 = {
    "clone": 56, "execveat": 322, "tgkill": 234, "tkill": 200, "rt_sigqueueinfo": 129, "kcmp": 312, "mq_open": 240,
    "pivot_root": 155, "finit_module": 313, "kexec_load": 246, "adjtimex": 159, "bpf": 321, "perf_event_open": 298,
    "userfaultfd": 323, "add_key": 248, "keyctl": 250, "seccomp": 317, "set_mempolicy": 238,
}  # fmt: skip
AARCH64 = {
    "clone": 220, "execveat": 281, "tgkill": 131, "tkill": 130, "rt_sigqueueinfo": 138, "kcmp": 272, "mq_open": 180,
    "pivot_root": 41, "finit_module": 273, "kexec_load": 104, "adjtimex": 171, "bpf": 280, "perf_event_open": 241,
    "userfaultfd": 282, "add_key": 217, "keyctl": 219, "seccomp": 277, "set_mempolicy": 237,
}  # fmt: skip
LEFTOVERS = (
    "/dev/shm/pwned", "/dev/shm/redone_attack", "/dev/pwned", "/var/tmp/pwned", "/usr/lib/pwned", "/pwned",
    "/sys/fs/cgroup/redone_attack", "/sys/fs/cgroup/memory/redone_attack", "/sys/fs/cgroup/pids/redone_attack",
    "/sys/fs/cgroup/unified/redone_attack", "/core",
)  # fmt: skip


class Host:
    """What the attackers look for, and whether they found it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.chmod(0o777)
        for name in ("secret.txt", "victim"):
            (folder / name).write_text("SECRET = 1\n", encoding="utf-8")
            (folder / name).chmod(0o666)
        self.tcp = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.udp.bind(("127.0.0.1", 0))
        self.unix, self.abstract = socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX)
        self.unix.bind(str(folder / "socket"))
        (folder / "socket").chmod(0o777)
        self.abstract_name = f"redone-attack-{os.getpid()}"
        self.abstract.bind("\0" + self.abstract_name)
        self.unix.listen()
        self.abstract.listen()
        user = NOBODY if os.getuid() == 0 else None
        groups = None if user is None else []
        self.canary = subprocess.Popen(["sleep", "600"], user=user, group=user, extra_groups=groups)
        self.before = self._state()

    def _state(self) -> dict[str, object]:
        files = sorted(self.folder.rglob("*"))
        return {
            "files": [(str(path), path.stat().st_mode, path.stat().st_mtime_ns, path.stat().st_size) for path in files],
            "host name": socket.gethostname(),
            "core pattern": Path("/proc/sys/kernel/core_pattern").read_text(encoding="utf-8"),
            "mounts": sum("tmpfs work " in line for line in Path("/proc/self/mountinfo").read_text().splitlines()),
            "priority": os.getpriority(os.PRIO_PROCESS, self.canary.pid),
            "affinity": os.sched_getaffinity(self.canary.pid),
        }

    @property
    def places(self) -> dict[str, object]:
        calls = X86_64 if os.uname().machine == "x86_64" else AARCH64
        return {
            "folder": str(self.folder), "tcp": self.tcp.getsockname()[1], "udp": self.udp.getsockname()[1],
            "unix": str(self.folder / "socket"), "abstract": self.abstract_name, "canary": self.canary.pid,
            "user": os.getuid(), "calls": calls, "host": socket.gethostname(),
        }  # fmt: skip

    def touched(self) -> list[str]:
        """What the attacks reached, changed or left; asked once all boxes are closed."""
        found = [f"{name} changed" for name, value in self._state().items() if value != self.before[name]]
        heard, _, _ = select.select([self.tcp, self.udp, self.unix, self.abstract], [], [], 0)
        found += ["a listener was reached"] * bool(heard)
        found += ["the canary was hit"] * (self.canary.poll() is not None)
        found += [f"{path} is left" for path in LEFTOVERS if os.path.lexists(path)]
        for kind in ("shm", "sem", "msg"):
            table = Path(f"/proc/sysvipc/{kind}").read_text(encoding="utf-8")
            found += [f"System V {kind} is left"] * any(
                line.split()[0] == str(0x5EED) for line in table.splitlines()[1:]
            )
        children = Path(f"/proc/self/task/{os.getpid()}/children").read_text(encoding="utf-8").split()
        return found + [f"process {number} is left" for number in children if number != str(self.canary.pid)]

    def close(self) -> None:
        self.canary.kill()
        self.canary.wait()
        for listener in (self.tcp, self.udp, self.unix, self.abstract):
            listener.close()


@contextlib.contextmanager
def attacked_host() -> Iterator[Host]:
    """A host; orphans of its boxes become children of this process, so that none is overlooked."""
    ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)
    with tempfile.TemporaryDirectory(prefix="redone-attacked-") as name:
        host = Host(Path(name))
        try:
            yield host
        finally:
            host.close()


def contain(backend: str) -> dict[str, str]:
    """How each attack ended: a status where it was held, else a text with ESCAPED. `host`: what was touched, or ""."""
    names = [(group, name) for group, attacks in GROUPS.items() if group != "results" for name in attacks]
    with attacked_host() as host:
        given = json.dumps(host.places).encode()
        with Sandbox(backend, LIMITS, WORKERS, checked=False) as sandbox:
            programs = [Program(PREAMBLE + GROUPS[group][name], given) for group, name in names]
            ran = sandbox.run_many(programs)
            forgers = [(results.TESTS, source) for source in results.ATTACKS.values()]
            forgers += results.OTHER_TESTS.values()
            forgeries = sandbox.test_many(
                [TestedProgram(f"import os, sys, time\n{source}", tests, "", "answer") for tests, source in forgers]
            )
        touched = host.touched()
    found = {
        f"{group}/{name}": result.stdout[:200] if _ESCAPED.search(result.stdout) else result.status
        for (group, name), result in zip(names, ran, strict=True)
    }
    for name, verdict in zip(GROUPS["results"], forgeries, strict=True):
        found[f"results/{name}"] = "ESCAPED: passed" if verdict.passed else "failed"
    return {**found, "host": "; ".join(touched)}


def main(arguments: list[str]) -> None:
    """Prints the outcomes as JSON; with `--as-nobody` root becomes an ordinary user first."""
    if "--as-nobody" in arguments and os.getuid() == 0:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
    os.environ["SECRET_TOKEN"] = "a secret of the environment"
    print(json.dumps(contain(arguments[0])))


if __name__ == "__main__":
    main(sys.argv[1:])
