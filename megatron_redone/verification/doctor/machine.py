"""GPUs, interconnect, shared memory and limits of this host. Imports no torch."""

from __future__ import annotations

import resource
import shutil
from collections.abc import Iterator
from pathlib import Path

from megatron_redone.verification.doctor.findings import Finding, error, ok, said, skipped, warning

QUERY = "name,memory.total,driver_version,ecc.errors.uncorrected.volatile.total,clocks_throttle_reasons.hw_slowdown"
INFINIBAND = Path("/sys/class/infiniband")
NETWORK = Path("/sys/class/net")
MIN_SHARED_MEMORY_GIB = 8.0
MIN_OPEN_FILES = 16_384


def look_at_gpus(listing: str | None = None, expected: bool = False) -> Iterator[Finding]:
    """Every GPU as nvidia-smi tells of it.

    Args:
        listing: what nvidia-smi wrote; by default it is asked.
        expected: whether this host should have GPUs.
    """
    text = said("nvidia-smi", f"--query-gpu={QUERY}", "--format=csv,noheader,nounits") if listing is None else listing
    if text is None:
        if expected:
            yield error("gpus", "nvidia-smi does not answer", "load the driver (modprobe nvidia), or drain the node")
        else:
            yield skipped("gpus", "no nvidia-smi: a host without GPUs")
        return
    for place, line in enumerate(text.strip().splitlines()):
        fields = [field.strip() for field in line.split(",")]
        if len(fields) != 5:
            yield warning("gpus", f"GPU {place}: {line.strip()!r} is not understood", "look at nvidia-smi by hand")
            continue
        name, memory, driver, ecc, slow = fields
        told = f"GPU {place}: {name}, {memory} MiB, driver {driver}"
        if ecc.isdecimal() and int(ecc) > 0:
            yield error(
                "gpus", f"{told}, {ecc} uncorrected memory errors", "drain the node and reset or change the GPU"
            )
        elif slow == "Active":
            yield warning("gpus", f"{told}, throttled by its hardware", "look at power and cooling of the node")
        else:
            yield ok("gpus", told)


def look_at_torch_devices() -> Iterator[Finding]:
    """What torch itself sees: a build for CUDA, NCCL, BF16."""
    import torch

    if not torch.cuda.is_available():
        built = torch.version.cuda
        if built is not None and shutil.which("nvidia-smi") is not None:
            yield error(
                "gpus",
                f"torch (CUDA {built}) finds no device",
                "a driver too old for this CUDA? see CUDA_VISIBLE_DEVICES",
            )
        else:
            yield skipped("gpus", f"torch {torch.__version__} without a CUDA device: gloo on CPUs")
        return
    nccl = ".".join(map(str, torch.cuda.nccl.version()))
    yield ok("gpus", f"torch sees {torch.cuda.device_count()} device(s), CUDA {torch.version.cuda}, NCCL {nccl}")
    if not torch.cuda.is_bf16_supported():
        yield warning("gpus", "no BF16 on this GPU", "use parallel.precision=fp32")


def look_at_interconnect(infiniband: Path = INFINIBAND, network: Path = NETWORK) -> Iterator[Finding]:
    """InfiniBand ports, Ethernet interfaces, NVLink."""
    ports = sorted(infiniband.glob("*/ports/*")) if infiniband.is_dir() else []
    for port in ports:
        name = f"{port.parents[1].name} port {port.name}"
        state, rate = (_read(port / file) for file in ("state", "rate"))
        if "ACTIVE" in state:
            yield ok("interconnect", f"{name}: {rate}")
        else:
            yield warning(
                "interconnect",
                f"{name}: {state or 'unknown'}",
                "look at cable and switch, or leave it out of NCCL_IB_HCA",
            )
    if not ports:
        yield skipped("interconnect", "no InfiniBand")
    names = [path.name for path in sorted(network.iterdir()) if path.name != "lo"] if network.is_dir() else []
    up = [name for name in names if _read(network / name / "operstate") in ("up", "unknown")]
    if up:
        yield ok("interconnect", f"interfaces that are up: {', '.join(up)} (NCCL_SOCKET_IFNAME, GLOO_SOCKET_IFNAME)")
    else:
        yield warning("interconnect", "no interface is up but the loopback", "jobs of several nodes need one")
    topology = said("nvidia-smi", "topo", "-m")
    if topology is not None:
        has_nvlink = "NV" in topology.replace("NVIDIA", "")
        yield (
            ok("interconnect", "GPUs are joined by NVLink")
            if has_nvlink
            else warning("interconnect", "no NVLink between the GPUs", "keep tensor parallelism small (tp=1 or 2)")
        )


def look_at_limits(shared_memory: Path = Path("/dev/shm")) -> Iterator[Finding]:
    """Shared memory, and what a process may take."""
    if shared_memory.is_dir():
        free = shutil.disk_usage(shared_memory).free / 2**30
        told = f"shared memory: {free:.1f} GiB free in {shared_memory}"
        mend = "give the container more (--shm-size, --ipc=host)"
        yield ok("files", told) if free >= MIN_SHARED_MEMORY_GIB else warning("files", told, mend)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    told = f"open files: {soft}"
    yield (
        ok("files", told)
        if soft >= MIN_OPEN_FILES or soft < 0
        else warning("files", told, f"ulimit -n {min(hard, 65_536) if hard > 0 else 65_536}, in `setup` of the profile")
    )
    locked = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]
    if INFINIBAND.is_dir() and locked >= 0:
        yield error("interconnect", f"memlock is limited to {locked} bytes", "InfiniBand needs ulimit -l unlimited")


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
