"""What the filter decides, read off the BPF program itself, for both machines."""

from __future__ import annotations

import errno
import struct

import pytest

from megatron_redone.scoring.sandbox.inside.seccomp import CHANGES_OF_FILES, MACHINES, build_filter

ALLOW, KILL = 0x7FFF0000, 0x80000000
REFUSE, UNKNOWN = 0x00050000 | errno.EPERM, 0x00050000 | errno.ENOSYS
OWN_PID = 2
THREAD = 0x3D0F00  # what the C library asks for a thread


def decide(program: bytes, audit: int, number: int, *arguments: int) -> int:
    """Runs the program as the kernel does, on one system call."""
    data = struct.pack("=iIQ6Q", number, audit, 0, *(arguments + (0,) * 6)[:6])
    steps = list(struct.iter_unpack("=HBBI", program))
    at = value = 0
    while True:
        code, if_true, if_false, constant = steps[at]
        at += 1
        if code == 0x20:
            value = struct.unpack_from("=I", data, constant)[0]
        elif code == 0x54:
            value &= constant
        elif code == 0x06:
            return constant
        else:
            outcome = {0x15: value == constant, 0x35: value >= constant, 0x45: bool(value & constant)}[code]
            at += if_true if outcome else if_false


@pytest.fixture(params=list(MACHINES))
def machine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_what_a_program_needs_is_allowed(machine: str) -> None:
    audit, calls = MACHINES[machine]
    program = build_filter(machine, OWN_PID)
    for name in (
        "read",
        "write",
        "mmap",
        "futex",
        "openat",
        "exit_group",
        "getrandom",
        "rt_sigaction",
        "clock_gettime",
    ):
        assert decide(program, audit, calls[name]) == ALLOW, name
    allowed = {
        "clone": (THREAD,), "kill": (OWN_PID, 9), "tgkill": (OWN_PID, 3, 6), "prlimit64": (0, 7, 0, 1),
        "socketpair": (1, 0x80001, 0), "fcntl": (1, 3), "ioctl": (1, 0x5401), "prctl": (15,),
    }  # fmt: skip
    for name, arguments in allowed.items():
        assert decide(program, audit, calls[name], *arguments) == ALLOW, name


def test_what_could_leave_the_box_is_refused(machine: str) -> None:
    audit, calls = MACHINES[machine]
    program = build_filter(machine, OWN_PID)
    refused = {
        "clone": [(17,), (0x4111,), (THREAD | 0x10000000,), (THREAD | 0x80,), (0x100,), (0x10000,)],
        "kill": [(1, 9), (-1 & 0xFFFFFFFF, 9), (0, 9), (3, 9)],
        "tgkill": [(1, 1, 9)],
        "prlimit64": [(1, 7, 0, 1), (0, 7, 0x7FFF12345678), (0, 7, 0x100000000), (0, 7, 1)],
        "socketpair": [(2, 1), (1, 2), (1, 0x80002), (1, 5), (16, 3)],
        "fcntl": [(1, 8), (1, 10), (1, 15), (1, 1031), (1, 1024)],
        "ioctl": [(0, 0x5412), (0, 0x8902)],
        "prctl": [(1,), (4,), (22,), (36,), (38,), (24,)],
    }
    for name, cases in refused.items():
        for arguments in cases:
            assert decide(program, audit, calls[name], *arguments) == REFUSE, (name, arguments)
    assert decide(program, audit, calls["clone3"]) == UNKNOWN


def test_only_listed_calls_of_this_machine_are_allowed(machine: str) -> None:
    audit, calls = MACHINES[machine]
    program = build_filter(machine, OWN_PID)
    outcomes = {number: decide(program, audit, number) for number in range(600)}
    unconditional = {number for number, outcome in outcomes.items() if outcome == ALLOW}
    assert unconditional < set(calls.values()) and len(unconditional) > 80
    assert {outcomes[number] for number in range(463, 600)} == {UNKNOWN}
    assert {decide(program, other, calls["read"]) for other, _ in MACHINES.values() if other != audit} == {KILL}
    assert decide(program, 0x40000003, 1) == KILL  # 32 bits
    if machine == "x86_64":
        assert decide(program, audit, 0x40000000) == KILL  # x32
    names = ("socket", "connect", "execve", "ptrace", "mount", "unshare", "bpf", "keyctl", "memfd_create", "shmget")
    assert not set(names) & set(calls)


def test_calls_can_be_left_out(machine: str) -> None:
    audit, calls = MACHINES[machine]
    program = build_filter(machine, OWN_PID, CHANGES_OF_FILES)
    left_out = [calls[name] for name in CHANGES_OF_FILES if name in calls]
    assert left_out and {decide(program, audit, number) for number in left_out} == {REFUSE}
    assert decide(program, audit, calls["read"]) == ALLOW


def test_another_machine_is_refused() -> None:
    with pytest.raises(ValueError, match=r"machine 'riscv64' has no list of system calls; supported: x86_64, aarch64"):
        build_filter("riscv64", 2)
