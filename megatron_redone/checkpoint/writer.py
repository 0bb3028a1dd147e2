"""Writes a rank's part of a torch_dist checkpoint in the rank's own process.

Megatron's writer forks a process per file. A fork of a process with threads may deadlock, and the child of a rank
that was killed in mid-write waits for ever on a queue that its parent no longer feeds. Saving is synchronous here,
so nothing is lost by writing in place.
"""

from __future__ import annotations

import contextlib
import queue
from collections.abc import Iterator
from typing import Any

from megatron.core.dist_checkpointing.strategies import filesystem_async
from megatron.core.dist_checkpointing.strategies.filesystem_async import FileSystemWriterAsync


@contextlib.contextmanager
def written_in_this_process() -> Iterator[None]:
    """Within it, Megatron's file writer neither forks nor starts its manager process."""
    forking, results = FileSystemWriterAsync.write_preloaded_data_multiproc, filesystem_async._results_queue
    FileSystemWriterAsync.write_preloaded_data_multiproc = staticmethod(_write)
    filesystem_async._results_queue = queue.SimpleQueue()
    try:
        yield
    finally:
        FileSystemWriterAsync.write_preloaded_data_multiproc = staticmethod(forking)
        filesystem_async._results_queue = results


def _write(
    transforms: list[Any], use_msc: bool, rank: int, buckets: list[Any], results: queue.SimpleQueue[Any]
) -> None:
    """Stands in for `write_preloaded_data_multiproc`: the results of all files by their index, or the first error."""
    written: dict[int, Any] = {}
    for index, bucket in enumerate(buckets):
        result: queue.SimpleQueue[tuple[int, Any]] = queue.SimpleQueue()
        pending: queue.Queue[int] = queue.Queue()
        pending.put(index)  # the writer takes it as its sign of being done
        FileSystemWriterAsync.write_preloaded_data(transforms, index, bucket, result, pending, use_fsync=True)
        written[index] = result.get()[1]
        if isinstance(written[index], Exception):
            results.put(written[index])
            return
    results.put(written)
