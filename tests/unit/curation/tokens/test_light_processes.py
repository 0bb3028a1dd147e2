"""Processes that tokenize start quickly: they import neither torch nor Megatron."""

from __future__ import annotations

import subprocess
import sys

CODE = """
import sys
from megatron_redone.curation.tokens import plan, shard, worker
print([name for name in ("torch", "megatron", "transformers", "datatrove") if name in sys.modules])
"""


def test_a_worker_imports_no_torch() -> None:
    found = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
