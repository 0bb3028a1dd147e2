from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from megatron_redone.launch.environment import available_cores
from megatron_redone.launch.threads import (
    MARKER,
    QUIET,
    TOKENIZER_THREADS,
    VLLM,
    device_kind,
    process_settings,
    with_settings,
)

ROOT = Path(__file__).resolve().parents[3]

START_TWICE = """
import json, os, sys
from megatron_redone.launch.threads import reexec_with
print("started", os.getpid(), flush=True)
reexec_with({"OMP_NUM_THREADS": "7", "MKL_NUM_THREADS": "7"})
threads = [os.environ[name] for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")]
print(json.dumps([sys.argv, sys.flags.dev_mode, *threads]))
"""


def test_the_process_starts_itself_once_more_with_the_settings(tmp_path: Path) -> None:
    script = tmp_path / "start.py"
    script.write_text(START_TWICE, encoding="utf-8")
    environ = {name: value for name, value in os.environ.items() if name not in (MARKER, "OMP_NUM_THREADS")}
    environ |= {"MKL_NUM_THREADS": "2", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-X", "dev", str(script), "run", "a b", "x=1"]
    lines = subprocess.run(command, env=environ, capture_output=True, text=True, check=True).stdout.splitlines()
    assert len(lines) == 3 and lines[0] == lines[1]  # twice, in the same process
    assert json.loads(lines[2]) == [[str(script), "run", "a b", "x=1"], True, "7", "2"]


def test_what_the_user_has_set_stays() -> None:
    settings = {"OMP_NUM_THREADS": "4", "MKL_NUM_THREADS": "4"}
    first = with_settings({"OMP_NUM_THREADS": "1", "HOME": "h"}, settings)
    expected = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "4", "HOME": "h", MARKER: "MKL_NUM_THREADS"}
    assert first == expected
    # A rank of several changes what was ours, and only that.
    ranks = with_settings(first, {"OMP_NUM_THREADS": "2", "MKL_NUM_THREADS": "2"})
    assert ranks == {**expected, "MKL_NUM_THREADS": "2"}


def test_settings_depend_on_the_device_and_the_processes() -> None:
    cpu, cuda = process_settings("cpu"), process_settings("cuda", processes_on_host=10_000)
    assert cpu["OMP_NUM_THREADS"] == cpu["MKL_NUM_THREADS"] == str(available_cores())
    assert cpu["MALLOC_MMAP_MAX_"] == "0" and cpu["TORCHDYNAMO_DISABLE"] == "1"
    assert cuda == {
        "OMP_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        "CUDA_DEVICE_MAX_CONNECTIONS": "1",
        **TOKENIZER_THREADS,
        **VLLM,
        **QUIET,
    }


def test_device_is_told_from_the_device_files(tmp_path: Path) -> None:
    (tmp_path / "nvidiactl").touch()
    assert device_kind({}, tmp_path) == "cpu"
    (tmp_path / "nvidia0").touch()
    assert device_kind({}, tmp_path) == "cuda"
    assert device_kind({"CUDA_VISIBLE_DEVICES": "1"}, tmp_path) == "cuda"
    assert device_kind({"CUDA_VISIBLE_DEVICES": ""}, tmp_path) == "cpu"
    assert device_kind({"CUDA_VISIBLE_DEVICES": "-1"}, tmp_path) == "cpu"
