"""What a look at a machine finds, and what mends it. Imports no torch."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal

Level = Literal["ok", "warning", "error", "skipped"]
SECONDS = 30


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    area: str
    """python, packages, gpus, interconnect, files, slurm, network, sandbox, hub."""
    level: Level
    """error: something will not work. warning: it may not, or is slower. skipped: there is nothing to look at."""
    found: str
    mend: str = ""
    """What to do; empty where all is well."""

    def as_dict(self) -> dict[str, str]:
        """For JSON."""
        return asdict(self)


def ok(area: str, found: str) -> Finding:
    """All is well."""
    return Finding(area, "ok", found)


def warning(area: str, found: str, mend: str) -> Finding:
    """It may not work, or is slower than it could be."""
    return Finding(area, "warning", found, mend)


def error(area: str, found: str, mend: str) -> Finding:
    """It will not work."""
    return Finding(area, "error", found, mend)


def skipped(area: str, why: str) -> Finding:
    """Nothing to look at."""
    return Finding(area, "skipped", why)


def said(*command: str) -> str | None:
    """What a program wrote; None where it is not there, fails or does not answer."""
    if shutil.which(command[0]) is None:
        return None
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return None
    return done.stdout if done.returncode == 0 else None


def exit_code(findings: Sequence[Finding]) -> int:
    """1 when something will not work."""
    return int(any(finding.level == "error" for finding in findings))
