"""Accelerators as data, each figure with its source: the one table that plans, dry runs and sweeps read.

Imports no torch. Peaks are the makers' dense figures (without sparsity). What kernels reach of them is fitted to
published speeds (`planning/records.py`) and stands here as figures; the other constants of the model are assumptions
of `planning/throughput.py`.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, replace

from megatron_redone.common.errors import InputError

GB, TFLOP = 1e9, 1e12


@dataclass(frozen=True)
class Kernels:
    """What software reaches of a device; the first three are shares of its peak."""

    dense: float
    """Matrix products of attention, MLP and vocabulary."""
    experts: float
    """Grouped matrix products of experts."""
    attention: float
    """Attention's two products."""
    operation_seconds: float
    """The host's time to start one operation: a step takes at least as long as starting all of its operations."""

    def scaled(self, factor: float) -> Kernels:
        """All shares of the peak times `factor`."""
        return replace(
            self, dense=factor * self.dense, experts=factor * self.experts, attention=factor * self.attention
        )


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
    host_bandwidth: float
    """Bytes a second between a rank and its host's memory."""
    ranks_per_node: int
    kernels: Kernels
    rollout_share: float
    """Share of the memory bandwidth that drawing tokens reaches."""
    reserved_bytes: float
    """CUDA context, NCCL and cuBLAS buffers: what no tensor accounts for. An allowance."""
    dollars_per_hour: float | None
    """Price of a rank for an hour, an assumption to be overridden; None: no price."""
    source: str

    @property
    def peak(self) -> float:
        """Dense bf16 operations a second."""
        return self.flops["bf16"]


H100_KERNELS = Kernels(dense=0.586, experts=0.475, attention=0.40, operation_seconds=8.0e-6)
H100_ROLLOUT_SHARE = 0.286

ACCELERATORS = {
    "h100": Accelerator(
        "h100", 80 * 2**30, {"bf16": 989 * TFLOP, "fp32": 67 * TFLOP}, 3_350 * GB, 450 * GB, 50 * GB, 50 * GB, 8,
        H100_KERNELS, H100_ROLLOUT_SHARE, 3 * 2**30, 2.5,
        "NVIDIA H100 SXM data sheet; NVLink 4: 900 GB/s both ways; one 400 Gb/s NIC a GPU; PCIe 5 x16",
    ),
    "h200": Accelerator(
        "h200", 139 * 2**30, {"bf16": 989 * TFLOP, "fp32": 67 * TFLOP}, 4_800 * GB, 450 * GB, 50 * GB, 50 * GB, 8,
        H100_KERNELS, H100_ROLLOUT_SHARE, 3 * 2**30, 3.0,
        "NVIDIA H200 SXM data sheet; links as H100; what kernels reach is taken over from H100, not measured",
    ),
    "a100": Accelerator(
        "a100", 80 * 2**30, {"bf16": 312 * TFLOP, "fp32": 19.5 * TFLOP}, 2_039 * GB, 300 * GB, 25 * GB, 25 * GB, 8,
        H100_KERNELS, H100_ROLLOUT_SHARE, 3 * 2**30, 1.5,
        "NVIDIA A100 80GB SXM data sheet; NVLink 3: 600 GB/s both ways; one 200 Gb/s NIC a GPU; PCIe 4 x16; "
        "what kernels reach is taken over from H100, not measured",
    ),
    "cpu": Accelerator(
        "cpu", 16 * 2**30, {"bf16": 0.05 * TFLOP, "fp32": 0.05 * TFLOP}, 20 * GB, 5 * GB, 1 * GB, 20 * GB, 8,
        Kernels(dense=0.5, experts=0.5, attention=0.5, operation_seconds=0.0), 0.5, 2**29, None,
        "placeholders: measure this machine and give --peak-tflops (redone benchmark train prints it)",
    ),
}  # fmt: skip


def get_accelerator(
    name: str,
    *,
    memory_gib: float | None = None,
    peak_tflops: float | None = None,
    bandwidth_tb_s: float | None = None,
    dollars_per_hour: float | None = None,
    ranks_per_node: int | None = None,
) -> Accelerator:
    """The profile of that name (in any case), with some figures replaced.

    Raises:
        InputError: there is none; the nearest known name is given.
    """
    key = name.lower()
    if key not in ACCELERATORS:
        near = difflib.get_close_matches(key, ACCELERATORS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(ACCELERATORS)}"
        raise InputError(f"gpu {name}: no such profile; {hint}")
    found = ACCELERATORS[key]
    given = {
        "memory_bytes": None if memory_gib is None else memory_gib * 2**30,
        "flops": None if peak_tflops is None else dict.fromkeys(found.flops, peak_tflops * TFLOP),
        "memory_bandwidth": None if bandwidth_tb_s is None else bandwidth_tb_s * 1e12,
        "dollars_per_hour": dollars_per_hour,
        "ranks_per_node": ranks_per_node,
    }
    return replace(found, **{field: value for field, value in given.items() if value is not None})  # type: ignore[arg-type]
