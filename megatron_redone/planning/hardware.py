"""Accelerators as data, each figure with its source. Imports no torch.

Peaks are the makers' dense figures (without sparsity). `efficiency` is the share of the peak that the kernels of a
dense layer reach together; it is the one figure that is calibrated, from the records of `planning/records.py`.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, replace

from megatron_redone.common.errors import InputError

GB, TFLOP = 1e9, 1e12


@dataclass(frozen=True)
class Accelerator:
    """One kind of device and the links between its ranks."""

    name: str
    memory_bytes: float
    """What one rank may take."""
    flops: dict[str, float]
    """Dense matrix products a second by precision."""
    memory_bandwidth: float
    """Bytes a second."""
    node_bandwidth: float
    """Bytes a second and direction between ranks of one node."""
    network_bandwidth: float
    """Bytes a second and rank between nodes."""
    ranks_per_node: int
    efficiency: float
    """Share of the peak that dense layers reach."""
    reserved_bytes: float
    """CUDA context, NCCL and cuBLAS buffers: what no tensor accounts for. An allowance."""
    dollars_per_hour: float | None
    """Price of a rank for an hour, an assumption to be overridden; None: no price."""
    source: str


ACCELERATORS = {
    "h100": Accelerator(
        "h100", 80 * 2**30, {"bf16": 989 * TFLOP, "fp32": 67 * TFLOP}, 3_350 * GB, 450 * GB, 50 * GB, 8, 0.52,
        3 * 2**30, 2.5, "NVIDIA H100 SXM data sheet; NVLink 4: 900 GB/s both ways; one 400 Gb/s NIC a GPU",
    ),
    "h200": Accelerator(
        "h200", 139 * 2**30, {"bf16": 989 * TFLOP, "fp32": 67 * TFLOP}, 4_800 * GB, 450 * GB, 50 * GB, 8, 0.52,
        3 * 2**30, 3.0, "NVIDIA H200 SXM data sheet; links as H100; efficiency taken over from H100, not measured",
    ),
    "a100": Accelerator(
        "a100", 80 * 2**30, {"bf16": 312 * TFLOP, "fp32": 19.5 * TFLOP}, 2_039 * GB, 300 * GB, 25 * GB, 8, 0.52,
        3 * 2**30, 1.5, "NVIDIA A100 80GB SXM data sheet; NVLink 3: 600 GB/s both ways; one 200 Gb/s NIC a GPU; "
        "efficiency taken over from H100, not measured",
    ),
    "cpu": Accelerator(
        "cpu", 16 * 2**30, {"bf16": 0.05 * TFLOP, "fp32": 0.05 * TFLOP}, 20 * GB, 5 * GB, 1 * GB, 8, 0.5,
        2**29, None, "placeholders: measure this machine and give --peak-tflops (redone benchmark train prints it)",
    ),
}  # fmt: skip


def get_accelerator(name: str, *, memory_gib: float | None = None, peak_tflops: float | None = None) -> Accelerator:
    """The profile of that name, with some figures replaced.

    Raises:
        InputError: there is none; the nearest known name is given.
    """
    key = name.lower()
    if key not in ACCELERATORS:
        near = difflib.get_close_matches(key, ACCELERATORS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(ACCELERATORS)}"
        raise InputError(f"--gpu {name}: no such profile; {hint}")
    found = ACCELERATORS[key]
    if memory_gib is not None:
        found = replace(found, memory_bytes=memory_gib * 2**30)
    if peak_tflops is not None:
        found = replace(found, flops=dict.fromkeys(found.flops, peak_tflops * TFLOP))
    return found
