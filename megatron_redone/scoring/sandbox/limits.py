"""What a program in a box may use, and what is said of its run."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

from megatron_redone.common.errors import InputError

MAX_WALL_SECONDS = 86_400.0
MIN_MEMORY_BYTES, MAX_MEMORY_BYTES = 64 << 20, 1 << 40
"""Less is not enough for an interpreter; more is a slip."""
Status = Literal["ok", "error", "timeout", "memory", "output_limit", "killed"]


@dataclass(frozen=True)
class Limits:
    """Limits of one box.

    Attributes:
        wall_seconds: from sending the program to its end; the same bound holds for its processor time.
        memory_bytes: address space of its one process.
        folder_bytes, folder_files: what its work folder may hold.
        output_bytes: standard output and standard error together.
        source_bytes, stdin_bytes: the longest program and input that are accepted.

    Raises:
        InputError: no such time or memory can be given.
    """

    wall_seconds: float = 4.0
    memory_bytes: int = 512 << 20
    folder_bytes: int = 64 << 20
    folder_files: int = 1024
    output_bytes: int = 1 << 20
    source_bytes: int = 8 << 20
    stdin_bytes: int = 16 << 20

    def __post_init__(self) -> None:
        if not 0 < self.wall_seconds <= MAX_WALL_SECONDS:  # nor is NaN in between
            raise InputError(
                f"wall_seconds is {self.wall_seconds}; give more than 0, at most {MAX_WALL_SECONDS:g} (a day)"
            )
        if self.memory_bytes < MIN_MEMORY_BYTES:
            raise InputError(
                f"{self.memory_bytes} bytes of memory are less than an interpreter needs; "
                f"give at least {MIN_MEMORY_BYTES >> 20}M"
            )
        if self.memory_bytes > MAX_MEMORY_BYTES:
            raise InputError(
                f"{self.memory_bytes} bytes of memory are more than any box takes; "
                f"give at most {MAX_MEMORY_BYTES >> 30}G"
            )

    @property
    def cpu_seconds(self) -> int:
        """Processor seconds, in whole seconds as the kernel counts them."""
        return math.ceil(self.wall_seconds) + 1


@dataclass(frozen=True)
class RunResult:
    """How a program ended.

    Attributes:
        status: `ok` exit code 0; `error` another exit code; `timeout`, `memory`, `output_limit` the limit that ended
            it; `killed` ended by a signal (a crash), or by the limit of its folder where that is watched.
        exit_code: as a shell's `$?` without a signal; negative for a signal; None where the box was ended from outside.
        stdout, stderr: UTF-8; other bytes as `\\xNN`; cut at the limit.
        wall_seconds: from sending the program to its end.
        backend: the kind of box.
    """

    status: Status
    exit_code: int | None
    stdout: str
    stderr: str
    wall_seconds: float
    backend: str

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)
