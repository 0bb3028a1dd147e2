"""Writing a distributed checkpoint: Megatron's torch_dist format under a manifest, whole or absent.

All ranks begin together: each copies its part and writes it, in a thread if training is to go on. All ranks publish
together: the parts are checksummed, the folder stands beside its final name, gets its manifest, and is renamed.
The thread writes in the rank's own process. Megatron forks a writer instead: the fork of a process with threads may
deadlock, and the child of a rank that was killed in mid-write waits for ever on a queue that its parent feeds no more.
"""

from __future__ import annotations

import contextlib
import copy
import queue
import shutil
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from megatron.core import dist_checkpointing
from megatron.core.dist_checkpointing.strategies import filesystem_async
from megatron.core.dist_checkpointing.strategies.async_utils import AsyncRequest
from megatron.core.dist_checkpointing.strategies.filesystem_async import FileSystemWriterAsync
from megatron.core.dist_checkpointing.strategies.torch import TorchDistSaveShardedStrategy
from torch.distributed.checkpoint.api import CheckpointException

from megatron_redone.checkpoint.manifest import manifest_of, publish_folder
from megatron_redone.common.errors import RedoneError
from megatron_redone.common.files import ZIP_WRITER_ON_FULL_DISK, disk_full, disk_full_reported, sha256_file
from megatron_redone.parallel.context import ParallelContext

ShardedState = dict[str, Any]


class CheckpointWrite:
    """A checkpoint on its way to `folder`, which it replaces when it is published.

    The constructor, `is_written` and `publish` are collectives.

    Args:
        state: Megatron's sharded tensors of this rank.
        extra: JSON that the manifest keeps.
        fingerprints: hashes, by name, of what the checkpoint belongs to; in the manifest as well.
        in_background: write copies of the tensors while the caller goes on, and may change them.
        add_files: writes more files into the folder it is given (called on rank 0); the manifest covers them.
    Raises:
        DiskFullError: on every rank; what stood under the name is untouched. RedoneError: another failure to write.
    """

    def __init__(
        self,
        folder: Path,
        state: ShardedState,
        extra: Mapping[str, Any],
        context: ParallelContext,
        fingerprints: Mapping[str, str] | None = None,
        *,
        in_background: bool = False,
        add_files: Callable[[Path], None] | None = None,
    ) -> None:
        self.folder, self.context = folder, context
        self._manifest = manifest_of(copy.deepcopy(dict(extra)), fingerprints)  # it may change during the write
        self._add_files = add_files
        self._temporary = folder.with_name(f".{folder.name}.tmp")
        self._hashes: dict[str, str] = {}
        context.on_main(lambda: _fresh_folder(self._temporary, folder))
        with self._unless_failed():
            self._request = _begin(self._temporary, state)
        self._thread = threading.Thread(target=self._write, args=(_buckets(self._request, copied=in_background),))
        self._thread.daemon = True  # a rank that fails has no use for it
        self._thread.start()

    def is_written(self) -> bool:
        """Whether every rank has written its part."""
        return self.context.maximum(int(self._thread.is_alive())) == 0

    def publish(self) -> None:
        """Waits for this rank's part and turns the parts of all ranks into the checkpoint."""
        self._thread.join()
        with self._unless_failed():
            for finalize in self._request.finalize_fns:  # gathers what the ranks wrote; rank 0 writes the metadata
                finalize()
            hashes: dict[str, str] = {}
            for part in self.context.gather_from_all(self._hashes):
                hashes.update(part)
            self.context.on_main(lambda: self._rename(hashes))

    def _write(self, buckets: list[Any]) -> None:
        """The thread: this rank's files and their checksums. What it fails with is kept for `publish`."""
        if self._request.async_fn is None:
            return
        rank, _, results = self._request.async_fn_args
        self._request.async_fn(rank, buckets, results)
        with contextlib.suppress(OSError):  # a file that is not there failed to be written, which is told already
            self._hashes = {Path(bucket[0]).name: sha256_file(Path(bucket[0])) for bucket in buckets}

    def _rename(self, hashes: Mapping[str, str]) -> None:
        with disk_full_reported(self.folder):
            if self._add_files is not None:
                self._add_files(self._temporary)
            publish_folder(self._temporary, self.folder, self._manifest, hashes)

    @contextlib.contextmanager
    def _unless_failed(self) -> Iterator[None]:
        """Where writing fails: our error for it, and nothing left of the folder."""
        try:
            with disk_full_reported(self.folder):
                yield
        except BaseException as error:
            if self.context.is_main:
                shutil.rmtree(self._temporary, ignore_errors=True)
            if isinstance(error, CheckpointException):  # on every rank alike, with its cause on rank 0 only
                failures = error.failures
                raise self.context.on_main(lambda: _reported(failures, self.folder)) from error
            raise


def write_checkpoint(
    folder: Path,
    state: ShardedState,
    extra: Mapping[str, Any],
    context: ParallelContext,
    fingerprints: Mapping[str, str] | None = None,
    add_files: Callable[[Path], None] | None = None,
) -> None:
    """Writes one checkpoint and waits for it; arguments and errors of `CheckpointWrite`. A collective."""
    CheckpointWrite(folder, state, extra, context, fingerprints, add_files=add_files).publish()


def _fresh_folder(temporary: Path, folder: Path) -> None:
    shutil.rmtree(temporary, ignore_errors=True)
    with disk_full_reported(folder):
        temporary.mkdir(parents=True)


def _begin(temporary: Path, state: ShardedState) -> AsyncRequest:
    """Megatron's plan of who writes what, with our writer in it."""
    with _written_in_this_process(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch announces deprecations of its own sharded tensors
        strategy = TorchDistSaveShardedStrategy("torch_dist", 1, thread_count=1)
        request = dist_checkpointing.save(state, str(temporary), sharded_strategy=strategy, async_sharded_save=True)
    assert request is not None
    return request


def _buckets(request: AsyncRequest, *, copied: bool) -> list[Any]:
    """Files and their tensors in host memory; copies where the originals may change meanwhile."""
    if request.async_fn is None:
        return []

    def on_host(tensor: torch.Tensor) -> torch.Tensor:
        return tensor.clone() if copied and tensor.is_cpu else tensor.to("cpu")

    return [
        (path, key, (pickled, [(item, on_host(tensor)) for item, tensor in tensors]))
        for path, key, (pickled, tensors) in request.async_fn_args[1]
    ]


@contextlib.contextmanager
def _written_in_this_process() -> Iterator[None]:
    """What is begun within it neither forks nor needs Megatron's manager process."""
    forking, results = FileSystemWriterAsync.write_preloaded_data_multiproc, filesystem_async._results_queue
    FileSystemWriterAsync.write_preloaded_data_multiproc = staticmethod(_write_files)
    filesystem_async._results_queue = queue.SimpleQueue()
    try:
        yield
    finally:
        FileSystemWriterAsync.write_preloaded_data_multiproc = staticmethod(forking)
        filesystem_async._results_queue = results


def _write_files(
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


def _reported(failures: Mapping[int, tuple[BaseException, Any]], folder: Path) -> RedoneError:
    """Our error for what the writers of the ranks met."""
    causes = {rank: str(cause) for rank, (cause, _) in failures.items()}
    signs = ("No space left", "Disk quota exceeded", *ZIP_WRITER_ON_FULL_DISK)
    if any(sign in cause for cause in causes.values() for sign in signs):
        return disk_full(folder)
    first = "; ".join(f"rank {rank}: {cause}" for rank, cause in sorted(causes.items())[:3])
    return RedoneError(f"{folder}: the checkpoint could not be written ({first}); nothing under that name was changed")
