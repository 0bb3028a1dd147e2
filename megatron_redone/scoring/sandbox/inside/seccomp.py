"""The seccomp filter of a box: a list of allowed system calls as a BPF program, loaded through prctl.

Everything that is not allowed fails with EPERM, so a program sees an ordinary error; calls newer than the list
fail with ENOSYS, so the C library falls back to older ones. Another architecture's calls (32-bit, x32) end the process.
There is no new process in a box, by fork or by exec: what a program allocates is then bounded by its own limits.
"""

from __future__ import annotations

import ctypes
import errno
import platform
import struct

from megatron_redone.scoring.sandbox.inside.syscalls import AARCH64, X86_64

MACHINES = {"x86_64": (0xC000003E, X86_64), "aarch64": (0xC00000B7, AARCH64)}
"""Audit number and system calls by `platform.machine()`."""
NEWEST = 462
"""Calls above this number are unknown here."""

_ALLOW, _KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN, _AND = 0x20, 0x15, 0x35, 0x45, 0x06, 0x54
_NR, _ARCH, _ARGS = 0, 4, 16
_THREAD_FLAGS = 0x00010000 | 0x00000100 | 0x00000800  # CLONE_THREAD, CLONE_VM, CLONE_SIGHAND
_NEW_NAMESPACES = 0x7E020080  # CLONE_NEW*: user, pid, net, ipc, uts, cgroup, mount, time
_FCNTL_COMMANDS = (0, 1, 2, 3, 4, 5, 6, 7, 1030)  # dup, flags, status, locks, dup with close-on-exec
_IOCTL_REQUESTS = (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)  # is it a terminal, size, bytes to read, blocking
_PRCTL_OPTIONS = (3, 15, 16, 0x53564D41)  # dumpable?, the thread's name, names of mappings
_PR_SET_SECCOMP, _FILTER_MODE, _PR_SET_NO_NEW_PRIVS = 22, 2, 38


class SockFprog(ctypes.Structure):
    """`struct sock_fprog` of the kernel: how many instructions, and where."""

    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_char_p)]


def _op(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)


def _low(argument: int) -> bytes:
    return _op(_LOAD, _ARGS + 8 * argument)


def _high(argument: int) -> bytes:
    return _op(_LOAD, _ARGS + 8 * argument + 4)


def _one_of(load: bytes, values: tuple[int, ...]) -> bytes:
    """Allows where the loaded word is one of these, else refuses."""
    checks = b"".join(_op(_EQUAL, value, 0, 1) + _op(_RETURN, _ALLOW) for value in values)
    return load + checks + _op(_RETURN, _ERRNO | errno.EPERM)


def _narrowed(own_pid: int) -> dict[str, bytes]:
    """What is asked of the arguments of some calls; each program ends with a decision."""
    refuse, allow = _op(_RETURN, _ERRNO | errno.EPERM), _op(_RETURN, _ALLOW)
    threads = _low(0) + _op(_ANY_BIT, _NEW_NAMESPACES, 2, 0) + _op(_AND, _THREAD_FLAGS)
    only_read_own_limits = b"".join(load + _op(_EQUAL, 0, 1, 0) + refuse for load in (_low(0), _low(2), _high(2)))
    stream_pair = _low(0) + _op(_EQUAL, 1, 1, 0) + refuse + _low(1) + _op(_AND, 0xF) + _op(_EQUAL, 1, 1, 0) + refuse
    return {
        "clone": threads + _op(_EQUAL, _THREAD_FLAGS, 1, 0) + refuse + allow,
        "clone3": _op(_RETURN, _ERRNO | errno.ENOSYS),  # its flags lie in memory; the C library then uses clone
        "fcntl": _one_of(_low(1), _FCNTL_COMMANDS),
        "ioctl": _one_of(_low(1), _IOCTL_REQUESTS),
        "prctl": _one_of(_low(0), _PRCTL_OPTIONS),
        "prlimit64": only_read_own_limits + allow,
        "kill": _one_of(_low(0), (own_pid,)),
        "tgkill": _one_of(_low(0), (own_pid,)),
        "socketpair": stream_pair + allow,  # of Unix streams: no name, no address
    }


CHANGES_OF_FILES = (
    "chmod", "fchmod", "fchmodat", "fchmodat2", "truncate", "utime", "utimes", "utimensat",
)  # fmt: skip
"""Calls on a path that landlock does not guard (all kernels, or old ones); a read-only mount does."""


def build_filter(machine: str, own_pid: int, without: tuple[str, ...] = ()) -> bytes:
    """The BPF program for a process with that id; the calls named in `without` are refused as well.

    Raises:
        ValueError: the machine is not supported.
    """
    if machine not in MACHINES:
        raise ValueError(f"machine {machine!r} has no list of system calls; supported: {', '.join(MACHINES)}")
    audit, calls = MACHINES[machine]
    narrowed = _narrowed(own_pid)
    parts = [_op(_LOAD, _ARCH), _op(_EQUAL, audit, 1, 0), _op(_RETURN, _KILL), _op(_LOAD, _NR)]
    if machine == "x86_64":
        parts += [_op(_AT_LEAST, 0x40000000, 0, 1), _op(_RETURN, _KILL)]  # x32
    parts += [_op(_AT_LEAST, NEWEST + 1, 0, 1), _op(_RETURN, _ERRNO | errno.ENOSYS)]
    for name, number in calls.items():
        if name in without:
            continue
        decision = narrowed.get(name, _op(_RETURN, _ALLOW))
        parts += [_op(_EQUAL, number, 0, len(decision) // 8), decision]
    return b"".join([*parts, _op(_RETURN, _ERRNO | errno.EPERM)])


def restrict_system_calls(own_pid: int, without: tuple[str, ...] = ()) -> None:
    """Loads the filter for this process, for good.

    Raises:
        OSError: the kernel has no seccomp, or refuses.
        ValueError: this machine is not supported.
    """
    program = build_filter(platform.machine(), own_pid, without)
    prog = SockFprog(len(program) // 8, program)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "no_new_privs refused")
    if libc.prctl(_PR_SET_SECCOMP, _FILTER_MODE, ctypes.byref(prog), 0, 0):
        raise OSError(ctypes.get_errno(), "seccomp filter refused")
