"""`redone benchmark train` on two ranks: one table, every rank in it, the work of all replicas counted once."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from megatron_redone.launch.processes import redone_command

pytestmark = pytest.mark.distributed


@pytest.mark.slow
def test_two_replicas_of_the_benchmark(tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    options = "--preset qwen3-tiny --sequence-length 64 --rows 2 --steps 2 --warmup 1 --precision fp32"
    layout = "--nproc 2 --layout distributed_optimizer=true"
    command = redone_command(["benchmark", "train", *options.split(), *layout.split(), "--out", str(out)])
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    found = json.loads(out.read_text())
    assert found["world_size"] == 2 and len(found["ranks"]) == 2
    assert found["real_tokens"] == [128, 128] and found["labelled_tokens"] == [126, 126]
    assert found["parts"]["communication"] > 0
    assert found["ranks"][0]["optimizer_mib"] < 1.1 * found["ranks"][0]["weights_mib"]  # half of both moments
    assert "useful tokens/s" in done.stderr
