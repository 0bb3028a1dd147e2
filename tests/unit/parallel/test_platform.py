"""What stands in for CUDA leaves the rest of torch as it was."""

from __future__ import annotations

import subprocess
import sys

MADE_AFTER_PLATFORM = """
import torch
from megatron_redone.parallel.platform import install_cpu_platform

install_cpu_platform()
with torch.device("meta"):
    made = [torch.zeros(2), torch.ones(2), torch.empty(2), torch.arange(2), torch.tensor([1])]
print({tensor.device.type for tensor in made})
"""


def test_a_device_context_holds_for_every_function_after_it() -> None:
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", MADE_AFTER_PLATFORM], capture_output=True, text=True)
    assert done.stdout.strip() == "{'meta'}", done.stderr
