"""The whole look at a host, area by area."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from megatron_redone.verification.doctor.cluster import look_at_clocks, look_at_ports, look_at_slurm
from megatron_redone.verification.doctor.files import look_at_files
from megatron_redone.verification.doctor.findings import Finding
from megatron_redone.verification.doctor.machine import (
    look_at_gpus,
    look_at_interconnect,
    look_at_limits,
    look_at_torch_devices,
)
from megatron_redone.verification.doctor.packages import look_at_packages
from megatron_redone.verification.doctor.services import look_at_hub, look_at_sandbox


def look(folder: Path, environ: Mapping[str, str]) -> Iterator[Finding]:
    """Everything, in the order in which one trouble hides the next.

    Args:
        folder: where runs will go.
        environ: of the shell: Slurm's allocation, the hub's switches.
    """
    yield from look_at_packages()
    yield from look_at_gpus(expected=environ.get("SLURM_GPUS_ON_NODE", "0") not in ("0", ""))
    yield from look_at_torch_devices()
    yield from look_at_interconnect()
    yield from look_at_limits()
    yield from look_at_files(folder)
    yield from look_at_slurm()
    yield from look_at_ports()
    yield from look_at_clocks(environ)
    yield from look_at_sandbox()
    yield from look_at_hub(environ)
