"""Starts boxes: a warm interpreter that forks one closed process for each program. Runs as a script, never imported.

    python -S -s -P server.py SETTINGS_JSON        (`control`: the descriptor of its control socket)

Each message on the control socket carries three descriptors: the lifeline of a new box, its output and its error
output. A box is two processes: a keeper (number 1 of its own process namespace), which waits, and the program. The
program closes itself in, says that it is ready, and waits for its request on the lifeline; so boxes can be started
ahead of need. When the program ends, the keeper writes its wait status to the lifeline. When the lifeline closes, the
keeper ends, and with it all that is in the box; when the control socket closes, the server ends, and with it all boxes.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import resource
import select
import signal
import socket
import struct
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[4]))

from megatron_redone.scoring.sandbox.inside import lockdown, program, seccomp, watch

OFTEN_USED = (
    "bisect", "collections", "copy", "dataclasses", "datetime", "decimal", "enum", "fractions", "functools", "heapq",
    "io", "itertools", "json", "math", "operator", "queue", "random", "re", "statistics", "string", "textwrap",
    "threading", "time", "traceback", "typing",
)  # fmt: skip
WATCH_MILLISECONDS = 20
READY = b"R"


def main() -> None:
    """Serves until the control socket closes."""
    settings = json.loads(sys.argv[1])
    os.environ.pop("PWD", None)
    for name in OFTEN_USED:
        __import__(name)
    lockdown.lean_threads()
    for path in settings["devices"]:
        lockdown.make_read_only(path)
    control = socket.socket(fileno=settings["control"])
    control.set_inheritable(False)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the one who asked
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for a keeper
    own_pidfd = os.pidfd_open(os.getpid())
    gc.freeze()
    number = 0
    while True:
        message, descriptors, _, _ = socket.recv_fds(control, 64, 3)
        if not message:
            with contextlib.suppress(ChildProcessError):
                os.wait()  # children are not waited for singly, so this lasts until the last keeper is gone
            if not settings["namespaces"]:
                with contextlib.suppress(OSError):  # the host removes it as well, unless it was ended
                    os.rmdir(settings["folder"])
            return
        number += 1
        if settings["namespaces"]:
            lockdown.unshare(lockdown.NEW_PIDS)
        if os.fork() == 0:
            control.close()
            os.close(own_pidfd)
            _keep(settings, descriptors, f"{settings['folder']}/{number}")
        if settings["namespaces"]:
            lockdown.children_in_own_pid_namespace(own_pidfd)
        for descriptor in descriptors:
            os.close(descriptor)


def _keep(settings: dict[str, Any], descriptors: list[int], own_folder: str) -> None:
    """The keeper: closes the box, starts the program in it, reports how it ended. Never returns."""
    status, note = -1, b"the box could not be closed"
    lifeline = descriptors[0]
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        folder = settings["folder"] if settings["namespaces"] else own_folder
        if settings["namespaces"]:
            lockdown.unshare(lockdown.NEW_MOUNTS | lockdown.NEW_IPC | lockdown.NEW_NET)
            owner = settings["user"] if settings["user"] is not None else os.getuid()
            lockdown.mount_work_folder(folder, settings["folder_bytes"], settings["folder_files"], owner)
        else:
            os.mkdir(folder, 0o700)
        lockdown.drop_privileges(settings["user"])
        os.chdir(folder)
        child = os.fork()
        if child == 0:
            _become_program(settings, descriptors, folder)
        os.close(descriptors[1])
        os.close(descriptors[2])
        status, note = _wait(settings, lifeline, child, folder)
    except OSError as error:
        note = f"the box could not be closed: {error}".encode()
    with contextlib.suppress(OSError):
        os.write(lifeline, struct.pack(">i", status) + note[:200])
    if not settings["namespaces"]:
        _remove(own_folder)
    os._exit(0)


def _wait(settings: dict[str, Any], lifeline: int, child: int, folder: str) -> tuple[int, bytes]:
    """Until the program ends or the lifeline closes. A folder that is no mount of its own is watched meanwhile."""
    watched = not settings["namespaces"]
    poll = select.poll()
    ended = os.pidfd_open(child)
    poll.register(ended, select.POLLIN)
    poll.register(lifeline, select.POLLRDHUP)
    note = b""
    while True:
        events = poll.poll(WATCH_MILLISECONDS if watched else None)
        if watched and not note:
            running = None if any(descriptor == ended for descriptor, _ in events) else child
            note = watch.excess(folder, running, settings["folder_bytes"], settings["folder_files"])
            if note:
                os.kill(child, signal.SIGKILL)
        if any(descriptor == lifeline for descriptor, _ in events):
            os.kill(child, signal.SIGKILL)
        if events:
            if settings["unsafe"]:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(child, signal.SIGKILL)
            status = os.waitpid(child, 0)[1]
            seen = note != b"unseen" or status == signal.SIGKILL  # unseen, for it was about to end
            return status, note if seen else b""


def _become_program(settings: dict[str, Any], descriptors: list[int], folder: str) -> None:
    """The program's process: limits, request, filter, program. Never returns."""
    code = 1
    try:
        os.setsid()
        threads = None
        if settings["namespaces"]:
            threads = lockdown.count_threads_alone()
            lockdown.drop_privileges(None)
        lockdown.end_with_parent()
        lifeline = socket.socket(fileno=descriptors[0])
        os.dup2(descriptors[1], 1)
        os.dup2(descriptors[2], 2)
        os.close(descriptors[1])
        os.close(descriptors[2])
        lockdown.limit_resources(settings["memory_bytes"], settings["cpu_seconds"], settings["folder_bytes"], threads)
        if settings["landlock"]:
            lockdown.restrict_files(settings["readable"], folder)
        os.environ.update(HOME=folder, TMPDIR=folder)
        sys.path[0] = ""  # a program may import what it wrote
        lifeline.send(READY)
        request, source, stdin, passed = _request(lifeline)
        lifeline.close()
        input_file = os.memfd_create("stdin")
        os.write(input_file, stdin)
        os.lseek(input_file, 0, os.SEEK_SET)
        os.dup2(input_file, 0)
        os.close(input_file)
        if not settings["unsafe"]:
            seccomp.restrict_system_calls(os.getpid(), seccomp.CHANGES_OF_FILES if settings["landlock"] else ())
        code = program.run(request, source, passed)
    except OSError as error:
        with contextlib.suppress(OSError):  # the lifeline is still open where a wall could not be built
            os.write(descriptors[0], struct.pack(">i", -1) + str(error).encode()[:200])
    finally:
        with contextlib.suppress(BaseException):
            sys.stdout.flush()
        os._exit(code)


def _request(lifeline: socket.socket) -> tuple[dict[str, Any], bytes, bytes, list[int]]:
    """The request of this box: the length of a header, the header, the program, its input."""
    head, descriptors, _, _ = socket.recv_fds(lifeline, 4, 3)
    if len(head) < 4:
        os._exit(0)  # nobody needs this box any more
    header = json.loads(_exactly(lifeline, struct.unpack(">I", head)[0]))
    return header, _exactly(lifeline, header["source_bytes"]), _exactly(lifeline, header["stdin_bytes"]), descriptors


def _exactly(lifeline: socket.socket, size: int) -> bytes:
    parts = []
    while size:
        part = lifeline.recv(min(size, 1 << 16))
        if not part:
            os._exit(0)
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def _remove(folder: str) -> None:
    """Removes a folder of a program, whatever rights it left in it and however deep it goes."""
    sys.setrecursionlimit(100_000)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with contextlib.suppress(OSError):
        _empty(os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW))
        os.rmdir(folder)


def _empty(folder: int) -> None:
    """Closes the descriptor. Links are removed, never followed."""
    with os.scandir(folder) as entries:
        names = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
    for name, is_folder in names:
        if is_folder:
            os.chmod(name, 0o700, dir_fd=folder)
            _empty(os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=folder))
            os.rmdir(name, dir_fd=folder)
        else:
            os.unlink(name, dir_fd=folder)
    os.close(folder)


if __name__ == "__main__":
    main()
