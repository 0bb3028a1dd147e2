"""The machine's own limit: how fast it multiplies matrices, measured beside what is compared with it."""

from __future__ import annotations

import time

import torch

CPU_SIZES, CUDA_SIZES = (512, 1024, 2048), (4096, 8192)
REPEATS = 5


def matmul_peak(dtype: torch.dtype, device: torch.device) -> float:
    """The most operations a second that a square matrix product of this process reaches, over some sizes."""
    sizes = CUDA_SIZES if device.type == "cuda" else CPU_SIZES
    return max(_flops_per_second(size, dtype, device) for size in sizes)


def _flops_per_second(size: int, dtype: torch.dtype, device: torch.device) -> float:
    one, other = (torch.randn(size, size, dtype=torch.float32).to(dtype).to(device) for _ in range(2))
    out = torch.empty_like(one)
    best = float("inf")
    for _ in range(REPEATS + 1):  # the first warms up
        _wait(device)
        began = time.perf_counter()
        torch.mm(one, other, out=out)
        _wait(device)
        best = min(best, time.perf_counter() - began)
    return 2.0 * size**3 / best


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()
