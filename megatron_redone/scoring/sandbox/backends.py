"""The kinds of boxes, and the command that starts the server of each.

- bubblewrap: the server runs behind namespaces of its own, made by `bwrap`; each box has fresh ones (processes, mounts,
  network, IPC), a work folder in memory, a system-call filter and limits.
- landlock: no namespaces, no privileges; each box may read Python's own files and write its folder, and nothing else.
- unsafe: limits alone. For programs that one trusts.
"""

from __future__ import annotations

import functools
import json
import os
import platform
import shutil
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from megatron_redone.common.errors import SandboxUnavailableError
from megatron_redone.scoring.sandbox.inside.seccomp import MACHINES
from megatron_redone.scoring.sandbox.limits import Limits

BACKENDS = ("bubblewrap", "landlock", "unsafe")
NOBODY = 65534
"""The user as whom programs run when root starts the box."""
INSIDE = Path(__file__).parent / "inside"
_PACKAGE_PATH = "megatron_redone/scoring/sandbox/inside"
_DEVICES = ("null", "zero", "full", "random", "urandom")
_SYSTEM_FOLDERS = ("/usr", "/lib", "/lib64", "/lib32", "/libx32", "/bin", "/sbin")


@dataclass(frozen=True)
class ServerCommand:
    """How to start a server.

    Attributes:
        command: the program and its arguments.
        user: the user to become first; None to stay.
    """

    command: list[str]
    user: int | None


def server_command(backend: str, limits: Limits, folder: str, control: int) -> ServerCommand:
    """The command for one backend.

    Args:
        backend, limits: the kind of boxes, and the limits of each.
        folder: an empty folder of the host, for boxes without mounts of their own.
        control: descriptor of the control socket in the server.

    Raises:
        SandboxUnavailableError: something that the backend needs is not on this machine.
    """
    if platform.machine() not in MACHINES and backend != "unsafe":
        known = ", ".join(MACHINES)
        raise SandboxUnavailableError(f"no list of system calls for {platform.machine()!r}; supported: {known}")
    as_root = os.geteuid() == 0
    settings: dict[str, Any] = {
        **asdict(limits),
        "cpu_seconds": limits.cpu_seconds,
        "control": control,
        "namespaces": backend == "bubblewrap",
        "landlock": backend == "landlock",
        "unsafe": backend == "unsafe",
        "user": NOBODY if backend == "bubblewrap" and as_root else None,
        "devices": [f"/dev/{name}" for name in _DEVICES] if backend == "bubblewrap" else [],
        "folder": "/work" if backend == "bubblewrap" else folder,
    }
    if backend == "bubblewrap":
        return ServerCommand(_bubblewrap_command(settings, as_root), None)
    user = NOBODY if as_root else None
    python = interpreter(user)
    settings["readable"] = readable_folders(python)
    return ServerCommand([*_python_command(python), str(INSIDE / "server.py"), json.dumps(settings)], user)


def _bubblewrap_command(settings: dict[str, Any], as_root: bool) -> list[str]:
    """Root keeps its rights in the server, which drops them in each box; a user gets some in a namespace of its own."""
    bwrap = shutil.which("bwrap", path="/usr/bin:/bin:/usr/local/bin")
    if bwrap is None:
        raise SandboxUnavailableError(
            "bubblewrap is not installed; install it (Debian, Ubuntu: apt install bubblewrap)"
        )
    python = interpreter(None)
    command = [bwrap, "--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try"]
    command += ["--hostname", "box"]
    if not as_root:
        command += ["--unshare-user", "--uid", str(NOBODY), "--gid", str(NOBODY)]
    command += ["--as-pid-1", "--cap-drop", "ALL"]
    needed = ["CAP_SYS_ADMIN", "CAP_SETPCAP"] + (["CAP_SETUID", "CAP_SETGID", "CAP_NET_ADMIN"] if as_root else [])
    for capability in needed:
        command += ["--cap-add", capability]
    for path in _SYSTEM_FOLDERS:
        if os.path.islink(path):
            command += ["--symlink", os.readlink(path), path]
        elif os.path.isdir(path):
            command += ["--ro-bind", path, path]
    for path in readable_folders(python):
        if os.path.exists(path) and not path.startswith(tuple(f"{folder}/" for folder in _SYSTEM_FOLDERS)):
            command += [*_open_parents(path), "--ro-bind", path, path]
    command += _open_parents("/dev/null")
    for name in _DEVICES:
        command += ["--dev-bind", f"/dev/{name}", f"/dev/{name}"]
    command += [*_open_parents(f"/box/{_PACKAGE_PATH}"), "--ro-bind", str(INSIDE), f"/box/{_PACKAGE_PATH}"]
    command += ["--dir", "/work", "--symlink", "work", "/tmp"]
    command += ["--remount-ro", "/", "--chdir", "/"]
    return [*command, "--", *_python_command(python), f"/box/{_PACKAGE_PATH}/server.py", json.dumps(settings)]


def _open_parents(path: str) -> list[str]:
    """Folders above a mount, which everybody may pass: bwrap would make them for their owner alone."""
    parents = [str(parent) for parent in reversed(Path(path).parents) if str(parent) != "/"]
    return [word for parent in parents for word in ("--perms", "0755", "--dir", parent)]


def _python_command(python: str) -> list[str]:
    return [python, "-S", "-s", "-P", "-B", "-X", "utf8"]  # not -I: it would overlook the hash seed


@functools.lru_cache
def interpreter(user: int | None) -> str:
    """The Python of the boxes: this one's base, or the system's where the user may not reach it (a root's pyenv).

    Raises:
        SandboxUnavailableError: none can be run.
    """
    base = os.path.realpath(getattr(sys, "_base_executable", sys.executable))
    tried = [base, "/usr/local/bin/python3", "/usr/bin/python3"]
    check = "import ctypes, sys; sys.exit(sys.version_info < (3, 11))"
    for python in tried:
        try:
            ended = subprocess.run(
                [python, "-I", "-S", "-c", check], user=user, cwd="/", env={}, capture_output=True, check=False
            )
        except OSError:
            continue
        if ended.returncode == 0:
            return os.path.realpath(python)
    raise SandboxUnavailableError(
        f"none of {', '.join(tried)} can be run by this user as Python 3.11 or newer with ctypes"
    )


@functools.lru_cache
def readable_folders(python: str) -> list[str]:
    """What an interpreter reads: its standard library, extension modules and shared libraries."""
    ask = (
        "import json, sys, sysconfig; p = sysconfig.get_paths();"
        "print(json.dumps([p['stdlib'], p['platstdlib'], sys.base_prefix + '/lib']))"
    )
    answer = subprocess.run(
        [python, "-I", "-S", "-c", ask], cwd="/", env={}, capture_output=True, check=True, text=True
    )
    found = [*json.loads(answer.stdout), python, "/usr/lib", "/lib", "/lib64", "/usr/lib64", "/usr/share/zoneinfo"]
    return list(dict.fromkeys(found))
