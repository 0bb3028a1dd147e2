"""Process groups of one rank, which NeMo-Aligner's samplers and loss ask.

Runs in NeMo-Aligner's environment, see `start.py`.
"""

from __future__ import annotations

import os
import tempfile

import torch.distributed as dist
from megatron.core import parallel_state


def one_process() -> None:
    """Makes them."""
    store = os.path.join(tempfile.mkdtemp(prefix="nemo-aligner-"), "store")
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=0, world_size=1)
    parallel_state.initialize_model_parallel()
