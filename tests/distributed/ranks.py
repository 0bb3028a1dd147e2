"""Runs a function on several gloo ranks of this host; a failure on any rank fails the test with its traceback."""

from __future__ import annotations

import multiprocessing
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any


def run_on_ranks(function: Callable[..., Any], world_size: int, folder: Path, *arguments: Any) -> None:
    """Calls `function(rank, world_size, store_file, *arguments)` in fresh processes and waits for all."""
    spawn = multiprocessing.get_context("spawn")
    results: Any = spawn.Queue()
    store_file = str(folder / "store")
    processes = [
        spawn.Process(target=_rank_main, args=(results, function, rank, world_size, store_file, *arguments))
        for rank in range(world_size)
    ]
    for process in processes:
        process.start()
    failures = []
    for _ in processes:
        rank, failure = results.get()
        if failure is not None:
            failures.append(f"rank {rank}:\n{failure}")
            for process in processes:
                process.terminate()
            break
    for process in processes:
        process.join()
    assert not failures, "\n".join(failures)


def _rank_main(
    results: Any, function: Callable[..., Any], rank: int, world_size: int, store_file: str, *arguments: Any
) -> None:
    import torch

    torch.set_num_threads(1)
    try:
        function(rank, world_size, store_file, *arguments)
        results.put((rank, None))
    except BaseException:  # noqa: BLE001 - sent to the test
        results.put((rank, traceback.format_exc()))
