"""What must stand in the environment before Python starts: thread counts, allocator, compiler, warnings.

OpenMP, the C allocator and torch read these once, at the start of the process. So the command line starts
itself once more with them (`reexec_with`), and processes it starts inherit them.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from megatron_redone.launch.environment import default_threads

Device = Literal["cpu", "cuda"]

# Names the settings that we made, so that a started rank may change them; a user's own are never changed.
MARKER = "REDONE_SETTINGS"
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")

# Large tensors come and go each step. These keep their memory with the process and in huge pages, where glibc
# would give it back and fault it in again: page faults took 37% of the CPU time of a training step without.
CPU_ALLOCATOR = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "17179869184",
    "THP_MEM_ALLOC_ENABLE": "1",
}
# Threads that wait spin for some microseconds and then sleep. One that spins on takes the core that the thread it
# waits for needs: with another process on the machine, training with two threads fell to a tenth of its rate. One that
# sleeps at once is woken late: SFT with two threads then lost a sixth of its rate.
CPU_WAIT = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "3000"}
# Megatron decorates functions for torch.compile; on a CPU compiling costs more than it brings in these sizes.
CPU_COMPILER = {"TORCHDYNAMO_DISABLE": "1"}
# Megatron's overlap of communication needs kernels to start in the order they were queued.
CUDA_QUEUES = {"CUDA_DEVICE_MAX_CONNECTIONS": "1"}

# Data is made by several processes beside each other, so one that encodes text keeps to its core.
TOKENIZER_THREADS = {"TOKENIZERS_PARALLELISM": "false"}

# vLLM, where it is installed: its engine in the process that asks for it, the model runner that takes our way of
# drawing tokens, no binding of threads to cores (the trainer's would be bound too), no reports to its makers, quiet.
VLLM = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_USE_V2_MODEL_RUNNER": "0",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_LOGGING_LEVEL": "ERROR",
}

# What Megatron and torch tell every process at its start, by how the messages begin: which optional packages are absent
# (a supported case), and that Megatron calls functions which torch has renamed.
QUIET = {
    "PYTHONWARNINGS": ",".join(
        f"ignore:{beginning}"
        for beginning in (
            "Transformer Engine and Apex are not installed",
            "Apex is not installed",
            "When using async grad allreduce",
            "`torch.distributed.",
            "`torch.jit.",
        )
    )
}


def device_kind(environ: Mapping[str, str], device_folder: Path = Path("/dev")) -> Device:
    """Whether an NVIDIA device is there and visible, told without importing torch."""
    if environ.get("CUDA_VISIBLE_DEVICES", "0").strip() in ("", "-1", "NoDevFiles"):
        return "cpu"
    found = any(device_folder.glob("nvidia[0-9]*")) or (device_folder / "dxg").exists()
    return "cuda" if found else "cpu"


def process_settings(device: Device, processes_on_host: int = 1) -> dict[str, str]:
    """The variables each of `processes_on_host` processes wants on a device of this kind."""
    threads = str(default_threads(processes_on_host))
    settings = dict.fromkeys(THREAD_VARIABLES, threads) | TOKENIZER_THREADS | VLLM
    return settings | QUIET | (CUDA_QUEUES if device == "cuda" else CPU_ALLOCATOR | CPU_WAIT | CPU_COMPILER)


def with_settings(environ: Mapping[str, str], settings: Mapping[str, str]) -> dict[str, str]:
    """`environ` with `settings`, except what the user has set; MARKER notes which ones are ours."""
    ours = {name for name in environ.get(MARKER, "").split(",") if name}
    ours |= {name for name in settings if name not in environ}
    changed = {name: value for name, value in settings.items() if name in ours}
    return {**environ, **changed, MARKER: ",".join(sorted(ours))}


def reexec_with(settings: Mapping[str, str]) -> None:
    """Starts this very command again with `settings`, in place of this process; does nothing the second time.

    Call it first in the command line's entry point, before torch or numpy is imported. Variables that the
    user has set stay. Arguments, standard streams and the process id stay the same.
    """
    if MARKER in os.environ:
        return
    environ = with_settings(os.environ, settings)
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environ)
