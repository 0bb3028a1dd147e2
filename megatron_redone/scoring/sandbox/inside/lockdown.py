"""What closes a box, step by step, by the names of the kernel: namespaces, mounts, limits, capabilities, landlock."""

from __future__ import annotations

import ctypes
import os
import resource
import struct
import threading
from collections.abc import Iterable

NEW_MOUNTS, NEW_IPC, NEW_USER, NEW_PIDS, NEW_NET = 0x00020000, 0x08000000, 0x10000000, 0x20000000, 0x40000000
NUM_THREADS = 256
"""Threads of one program."""
NUM_THREADS_SHARED = 4096
"""Threads of all programs of one user, where the kernel cannot count each box for itself."""
_REMOUNT_READ_ONLY = 32 | 4096 | 1  # MS_REMOUNT, MS_BIND, MS_RDONLY
_MOUNT_FLAGS = {2: 2, 4: 4, 8: 8, 1024: 1024, 2048: 2048, 4096: 1 << 21}  # as statvfs says them, as mount wants them
_NOSUID, _NODEV, _NOEXEC = 2, 4, 8
_PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS, _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL = 24, 38, 47, 4
_PR_SET_PDEATHSIG = 1
_CAPABILITY_VERSION_3 = 0x20080522
_LANDLOCK_CREATE, _LANDLOCK_ADD, _LANDLOCK_RESTRICT = 444, 445, 446  # the same on all machines
_LANDLOCK_READ = (1 << 2) | (1 << 3)  # read a file, list a folder; never execute
_LANDLOCK_FOLDER = _LANDLOCK_READ | (1 << 1) | (1 << 4) | (1 << 5) | (1 << 7) | (1 << 8) | (1 << 12)
_FILE_RIGHTS = (1 << 2) | (1 << 1)

_libc = ctypes.CDLL(None, use_errno=True)


def _checked(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def unshare(flags: int) -> None:
    """New namespaces for this process (for its children: process ids)."""
    _checked(_libc.unshare(flags), "unshare")


def children_in_own_pid_namespace(own_pidfd: int) -> None:
    """Undoes `unshare(NEW_PIDS)`: the next children are numbered beside this process again."""
    _checked(_libc.setns(own_pidfd, NEW_PIDS), "setns")


def mount_work_folder(path: str, num_bytes: int, num_inodes: int, owner: int) -> None:
    """An empty folder in memory with a limit of bytes and of files, seen in this mount namespace alone."""
    options = f"size={num_bytes},nr_inodes={num_inodes},mode=0700,uid={owner},gid={owner}"
    flags = _NOSUID | _NODEV | _NOEXEC
    _checked(_libc.mount(b"work", path.encode(), b"tmpfs", flags, options.encode()), "mount of the work folder")


def make_read_only(path: str) -> None:
    """Remounts what is mounted there. A device can be read and written all the same, but its times stay as they are."""
    said = os.statvfs(path).f_flag
    kept = sum(flag for bit, flag in _MOUNT_FLAGS.items() if said & bit)
    _checked(_libc.mount(None, path.encode(), None, _REMOUNT_READ_ONLY | kept, None), f"read-only {path}")


def count_threads_alone() -> int:
    """Makes the kernel count the threads of this process alone, in a user namespace; returns how many it may have.

    Where a kernel refuses that, the limit is over all programs of the user. Drop privileges again afterwards.
    """
    numbers = [int("".join(filter(str.isdigit, part)) or 0) for part in os.uname().release.split(".")[:2]]
    alone = numbers >= [5, 14] and _libc.unshare(NEW_USER) == 0
    return NUM_THREADS if alone else NUM_THREADS_SHARED


def lean_threads() -> None:
    """One heap for all threads: by default each takes 64 MiB of address space, which the limit of memory counts."""
    if hasattr(_libc, "mallopt"):
        _libc.mallopt(-8, 1)  # M_ARENA_MAX
    threading.stack_size(2 << 20)


def drop_privileges(user: int | None) -> None:
    """No capability, now and for ever; as root also no root: groups and ids of `user`."""
    for capability in range(64):
        if _libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0) < 0:
            break
    if user is not None:
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)
    _libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    header = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0)
    _checked(_libc.capset(header, bytes(24)), "capset")
    _checked(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")


def end_with_parent() -> None:
    """SIGKILL for this process when its parent ends."""
    _checked(_libc.prctl(_PR_SET_PDEATHSIG, 9, 0, 0, 0), "parent death signal")


def limit_resources(memory_bytes: int, cpu_seconds: int, file_bytes: int, threads: int | None) -> None:
    """Limits of this process, hard and soft; `threads` is None where something else counts them."""
    limits = {
        resource.RLIMIT_AS: memory_bytes,
        resource.RLIMIT_CPU: cpu_seconds,
        resource.RLIMIT_FSIZE: file_bytes,
        resource.RLIMIT_CORE: 1,  # no core; with 0, a core pattern with a pipe would start its program all the same
        resource.RLIMIT_NOFILE: 64,
        resource.RLIMIT_MEMLOCK: 0,
        resource.RLIMIT_MSGQUEUE: 0,
        resource.RLIMIT_STACK: 16 << 20,
        resource.RLIMIT_SIGPENDING: 64,
    }
    if threads is not None:
        limits[resource.RLIMIT_NPROC] = threads
    for name, value in limits.items():
        hard = resource.getrlimit(name)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(name, (value, value))


def landlock_version() -> int:
    """Version of landlock in this kernel; 0 where there is none."""
    return max(0, int(_libc.syscall(_LANDLOCK_CREATE, None, ctypes.c_size_t(0), 1)))


def restrict_files(readable: Iterable[str], folder: str) -> None:
    """From here on this process reads what lies under `readable` and writes below `folder`; all else is closed.

    Raises:
        OSError: the kernel has no landlock (Linux 5.13 brought it).
    """
    version = landlock_version()
    if version == 0:
        raise OSError("landlock is not available in this kernel")
    handled = (1 << (13 if version == 1 else 14 if version == 2 else 15 if version < 5 else 16)) - 1
    writable = _LANDLOCK_FOLDER | ((1 << 13) if version >= 2 else 0) | ((1 << 14) if version >= 3 else 0)
    net, scoped = (3 if version >= 4 else 0), (3 if version >= 6 else 0)  # no TCP; no foreign signals, named sockets
    size = 24 if version >= 6 else 16 if version >= 4 else 8
    attributes = struct.pack("=QQQ", handled, net, scoped)[:size]
    ruleset = _checked(_libc.syscall(_LANDLOCK_CREATE, attributes, ctypes.c_size_t(size), 0), "landlock ruleset")
    devices = [("/dev/null", _FILE_RIGHTS), ("/dev/zero", _FILE_RIGHTS), ("/dev/urandom", 1 << 2)]
    for path, rights in [*((path, _LANDLOCK_READ) for path in readable), *devices, (folder, writable)]:
        try:
            descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        rights = rights if os.path.isdir(path) else rights & (_FILE_RIGHTS | (1 << 14 if version >= 3 else 0))
        rule = struct.pack("=Qi", rights, descriptor)
        _checked(_libc.syscall(_LANDLOCK_ADD, ruleset, 1, rule, 0), f"landlock rule for {path}")
        os.close(descriptor)
    _checked(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")
    _checked(_libc.syscall(_LANDLOCK_RESTRICT, ruleset, 0), "landlock")
    os.close(ruleset)
