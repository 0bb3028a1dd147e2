"""vLLM inside a job of several processes: each rank runs an engine of its own, in the process group that is there."""

from __future__ import annotations

import torch
import torch.distributed as dist
from vllm.v1.executor.uniproc_executor import ExecutorWithExternalLauncher


class RankExecutor(ExecutorWithExternalLauncher):
    """vLLM's executor for processes that something else launched, with places from the group, not from torchrun's
    variables: they are absent under `srun`."""

    def _distributed_args(self) -> tuple[str, int, int]:
        """(how to meet, which is not used in a group that stands; rank; number of the device)."""
        return "env://", dist.get_rank(), torch.cuda.current_device() if torch.cuda.is_available() else 0
