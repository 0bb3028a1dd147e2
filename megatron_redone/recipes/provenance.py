"""What manifests say of where an artefact was made: machine, versions, time; and hashes of what came from outside."""

from __future__ import annotations

import platform
import time
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from megatron_redone.common.files import sha256_path
from megatron_redone.version import __version__

VERSIONED_PACKAGES = ("torch", "megatron-core", "transformers", "numpy", "sentencepiece", "sacrebleu")
SECONDS_TO_SETTLE = 2.0
"""A file changed more recently may change again without another time stamp: its hash is not kept."""
_HASHES: dict[tuple[Path, tuple[tuple[str, int, int, int], ...]], str] = {}


def hash_from_outside(path: Path) -> str:
    """SHA-256 of a file or folder, computed once a process as long as no size or time stamp in it changes."""
    files = [path] if path.is_file() else sorted(one for one in path.rglob("*") if one.is_file())
    stats = [file.stat() for file in files]
    marks = ((str(file), s.st_ino, s.st_size, s.st_mtime_ns) for file, s in zip(files, stats, strict=True))
    key = path.resolve(), tuple(marks)
    if key in _HASHES:
        return _HASHES[key]
    digest = sha256_path(path)
    if time.time() - max((s.st_mtime for s in stats), default=0.0) >= SECONDS_TO_SETTLE:
        _HASHES[key] = digest
    return digest


def machine() -> dict[str, Any]:
    """Processor and system of this host, without its name."""
    import psutil

    model = ""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        lines = [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        model = lines[0].partition(":")[2].strip() if lines else ""
    return {
        "processor": model or platform.processor() or platform.machine(),
        "cores": psutil.cpu_count(logical=True) or 0,
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "system": f"{platform.system()} {platform.machine()}",
    }


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide results."""
    found = {"python": platform.python_version(), "megatron-redone": __version__}
    for package in VERSIONED_PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def utc_now() -> datetime:
    """The time, for manifests."""
    return datetime.now(UTC)
