"""Numbers of the system calls that a program in a box may use, for both supported machines.

A Python program computes, reads and writes files of its folder, sleeps, and starts threads; it needs nothing else.
Calls that are not here (sockets, execve, ptrace, mount, keyrings, io_uring, bpf, shared memory, ...) do not exist for
it. Some of those here are narrowed further by their arguments (`seccomp.py`). Numbers from the kernel's
`asm/unistd_64.h` and `asm-generic/unistd.h`.
"""

from __future__ import annotations

X86_64: dict[str, int] = {
    "read": 0, "write": 1, "readv": 19, "writev": 20, "pread64": 17, "pwrite64": 18, "preadv": 295, "pwritev": 296,
    "preadv2": 327, "pwritev2": 328, "close": 3, "close_range": 436, "lseek": 8, "mmap": 9, "munmap": 11,
    "mprotect": 10, "mremap": 25, "madvise": 28, "brk": 12, "mincore": 27, "msync": 26, "futex": 202,
    "futex_waitv": 449, "set_robust_list": 273, "get_robust_list": 274, "rseq": 334, "set_tid_address": 218,
    "sched_yield": 24, "rt_sigaction": 13, "rt_sigprocmask": 14, "rt_sigreturn": 15, "rt_sigsuspend": 130,
    "rt_sigpending": 127, "rt_sigtimedwait": 128, "sigaltstack": 131, "exit": 60, "exit_group": 231, "wait4": 61,
    "waitid": 247, "restart_syscall": 219, "getpid": 39, "getppid": 110, "gettid": 186, "getuid": 102, "geteuid": 107,
    "getgid": 104, "getegid": 108, "getgroups": 115, "getresuid": 118, "getresgid": 120, "getpgrp": 111,
    "getpgid": 121, "getsid": 124, "clock_gettime": 228, "clock_getres": 229, "clock_nanosleep": 230, "nanosleep": 35,
    "gettimeofday": 96, "time": 201, "times": 100, "getrusage": 98, "getrlimit": 97, "getrandom": 318, "uname": 63,
    "sysinfo": 99, "getcpu": 309, "sched_getaffinity": 204, "sched_getparam": 143, "sched_getscheduler": 145,
    "sched_get_priority_max": 146, "sched_get_priority_min": 147, "getpriority": 140, "getitimer": 36,
    "setitimer": 38, "alarm": 37, "pause": 34, "poll": 7, "ppoll": 271, "select": 23, "pselect6": 270,
    "epoll_create": 213, "epoll_create1": 291, "epoll_ctl": 233, "epoll_wait": 232, "epoll_pwait": 281,
    "eventfd2": 290, "pipe": 22, "pipe2": 293, "sendto": 44, "recvfrom": 45, "shutdown": 48, "getsockname": 51,
    "getpeername": 52, "getsockopt": 55, "open": 2, "openat": 257, "creat": 85, "access": 21, "faccessat": 269,
    "faccessat2": 439, "stat": 4, "lstat": 6, "fstat": 5, "newfstatat": 262, "statx": 332, "statfs": 137,
    "fstatfs": 138, "getdents": 78, "getdents64": 217, "getcwd": 79, "chdir": 80, "fchdir": 81, "mkdir": 83,
    "mkdirat": 258, "rmdir": 84, "rename": 82, "renameat": 264, "renameat2": 316, "unlink": 87, "unlinkat": 263,
    "link": 86, "linkat": 265, "symlink": 88, "symlinkat": 266, "readlink": 89, "readlinkat": 267, "chmod": 90,
    "fchmod": 91, "fchmodat": 268, "fchmodat2": 452, "truncate": 76, "ftruncate": 77, "fallocate": 285, "fsync": 74,
    "fdatasync": 75, "utime": 132, "utimes": 235, "utimensat": 280, "flock": 73, "umask": 95, "dup": 32, "dup2": 33,
    "dup3": 292, "fadvise64": 221, "copy_file_range": 326, "sendfile": 40, "clone": 56, "clone3": 435, "fcntl": 72,
    "ioctl": 16, "prctl": 157, "prlimit64": 302, "kill": 62, "tgkill": 234, "socketpair": 53,
}  # fmt: skip

AARCH64: dict[str, int] = {
    "read": 63, "write": 64, "readv": 65, "writev": 66, "pread64": 67, "pwrite64": 68, "preadv": 69, "pwritev": 70,
    "preadv2": 286, "pwritev2": 287, "close": 57, "close_range": 436, "lseek": 62, "mmap": 222, "munmap": 215,
    "mprotect": 226, "mremap": 216, "madvise": 233, "brk": 214, "mincore": 232, "msync": 227, "futex": 98,
    "futex_waitv": 449, "set_robust_list": 99, "get_robust_list": 100, "rseq": 293, "set_tid_address": 96,
    "sched_yield": 124, "rt_sigaction": 134, "rt_sigprocmask": 135, "rt_sigreturn": 139, "rt_sigsuspend": 133,
    "rt_sigpending": 136, "rt_sigtimedwait": 137, "sigaltstack": 132, "exit": 93, "exit_group": 94, "wait4": 260,
    "waitid": 95, "restart_syscall": 128, "getpid": 172, "getppid": 173, "gettid": 178, "getuid": 174, "geteuid": 175,
    "getgid": 176, "getegid": 177, "getgroups": 158, "getresuid": 148, "getresgid": 150, "getpgid": 155,
    "getsid": 156, "clock_gettime": 113, "clock_getres": 114, "clock_nanosleep": 115, "nanosleep": 101,
    "gettimeofday": 169, "times": 153, "getrusage": 165, "getrlimit": 163, "getrandom": 278, "uname": 160,
    "sysinfo": 179, "getcpu": 168, "sched_getaffinity": 123, "sched_getparam": 121, "sched_getscheduler": 120,
    "sched_get_priority_max": 125, "sched_get_priority_min": 126, "getpriority": 141, "getitimer": 102,
    "setitimer": 103, "ppoll": 73, "pselect6": 72, "epoll_create1": 20, "epoll_ctl": 21, "epoll_pwait": 22,
    "eventfd2": 19, "pipe2": 59, "sendto": 206, "recvfrom": 207, "shutdown": 210, "getsockname": 204,
    "getpeername": 205, "getsockopt": 209, "openat": 56, "faccessat": 48, "faccessat2": 439, "fstat": 80,
    "newfstatat": 79, "statx": 291, "statfs": 43, "fstatfs": 44, "getdents64": 61, "getcwd": 17, "chdir": 49,
    "fchdir": 50, "mkdirat": 34, "renameat": 38, "renameat2": 276, "unlinkat": 35, "linkat": 37, "symlinkat": 36,
    "readlinkat": 78, "fchmod": 52, "fchmodat": 53, "fchmodat2": 452, "truncate": 45, "ftruncate": 46,
    "fallocate": 47, "fsync": 82, "fdatasync": 83, "utimensat": 88, "flock": 32, "umask": 166, "dup": 23, "dup3": 24,
    "fadvise64": 223, "copy_file_range": 285, "sendfile": 71, "clone": 220, "clone3": 435, "fcntl": 25, "ioctl": 29,
    "prctl": 167, "prlimit64": 261, "kill": 129, "tgkill": 131, "socketpair": 199,
}  # fmt: skip
