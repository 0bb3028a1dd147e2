"""The mini recipe and how tests run it: in this process, or as a command in a process of its own."""

from __future__ import annotations

import contextlib
import json
import logging
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from megatron_redone.cli.main import main
from megatron_redone.reporting.run_files import load_run
from megatron_redone.reporting.tables import build_table, to_markdown

ROOT = Path(__file__).resolve().parents[2]
RECIPE = Path(__file__).with_name("mini_recipe.yaml")
SECONDS = 300
"""Until a test that waits for a process gives up; nothing here takes a tenth of it on a quiet machine."""
STAGES = [
    "data", "tokenizer", "tokens", "baselines", "pretrain", "warmup_set", "warmup", "explore_set", "explore.seed1",
    "diagnose.seed1", "target_set.seed1", "target.seed1", "refinement_set.seed1", "refine.seed1", "sft_only.seed1",
    "judged.seed1",
]  # fmt: skip


@contextlib.contextmanager
def process_restored() -> Iterator[None]:
    """What the command line changes in its process is put back: signal handlers, log, threads."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
    handlers = [signal.getsignal(number) for number in numbers]
    logger, threads = logging.getLogger("redone"), torch.get_num_threads()
    log = list(logger.handlers), logger.level, logger.propagate
    try:
        yield
    finally:
        for number, handler in zip(numbers, handlers, strict=True):
            signal.signal(number, handler)
        logger.handlers[:], logger.level, logger.propagate = log
        torch.set_num_threads(threads)


def run_here(output: Path, *overrides: str, recipe: Path = RECIPE) -> int:
    """`redone run` in this process, which has torch loaded already; its exit code."""
    with process_restored():
        return main(["run", str(recipe), f"output={output}", *overrides])


def command(output: Path, *arguments: str, recipe: Path = RECIPE) -> list[str]:
    """`redone run` for a process of its own."""
    return [sys.executable, "-m", "megatron_redone.cli", "run", str(recipe), f"output={output}", *arguments]


def start(output: Path, *arguments: str) -> subprocess.Popen[str]:
    """Starts `redone run` in a session of its own, where nobody else gets its signals."""
    return subprocess.Popen(
        command(output, *arguments), cwd=ROOT, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def wait_until(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    """Looks until the condition holds; fails when the process ends before it or nothing happens."""
    give_up = time.monotonic() + SECONDS
    while not condition():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < give_up, "nothing happened"
        time.sleep(0.02)


def checkpoint_of(output: Path, stage: str) -> Path:
    """The file that names the newest checkpoint of a stage at work."""
    return output / ".work" / stage / "checkpoints" / "latest.json"


def manifest(output: Path, stage: str) -> dict[str, Any]:
    value: dict[str, Any] = json.loads((output / stage / "manifest.json").read_text())
    return value


def artefact_hashes(output: Path) -> dict[str, str]:
    """The hash of every artefact of a run, by its stage."""
    folders = sorted(path.parent.name for path in output.glob("*/manifest.json"))
    return {name: manifest(output, name)["outputs"]["folder"]["sha256"] for name in folders}


def table_of(output: Path) -> str:
    """The table of scores as markdown."""
    return to_markdown(build_table(load_run(output)))


def copy_without(finished: Path, output: Path, stages: Sequence[str]) -> Path:
    """A run that has all but some stages of another one; equal settings and inputs make the copies count as done."""
    shutil.copytree(finished, output, ignore=lambda folder, names: stages if Path(folder) == finished else [])
    return output
