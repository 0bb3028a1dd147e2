"""What vLLM changes in its process, and how it is put back: the trainer lives there too."""

from __future__ import annotations

import contextlib
import gc
import warnings
from collections.abc import Iterator
from typing import Literal

import torch

from megatron_redone.parallel.platform import streams_kept


@contextlib.contextmanager
def process_kept() -> Iterator[None]:
    """While an engine starts: number of threads, precision of products and CUDA's stand-ins stay the trainer's, so that
    its numbers do not depend on whether vLLM has started. Warnings, all about vLLM's own code, are silent."""
    set_num_threads, precision = torch.set_num_threads, torch.get_float32_matmul_precision()
    try:
        with warnings.catch_warnings(), streams_kept():
            warnings.simplefilter("ignore")
            yield
    finally:
        torch.set_num_threads = set_num_threads  # on a CPU vLLM takes it away from the whole process
        torch.set_float32_matmul_precision(precision)


GroupsToEnd = Literal["none", "its own", "all"]


class Alive:
    """The engines of this process: they share vLLM's process groups, which go with the last of them."""

    def __init__(self) -> None:
        self._engines: set[int] = set()
        self._group_stood = False

    def add(self, engine: object, group_stands: bool) -> None:
        """Notes an engine; of the first, whether a process group stood before it."""
        if not self._engines:
            self._group_stood = group_stands
        self._engines.add(id(engine))

    def end_of(self, engine: object) -> GroupsToEnd:
        """Forgets an engine; the groups that have to end with it."""
        self._engines.discard(id(engine))
        if self._engines:
            return "none"
        return "its own" if self._group_stood else "all"


ALIVE = Alive()


@contextlib.contextmanager
def groups_kept(ended: GroupsToEnd) -> Iterator[None]:
    """While an engine shuts down: vLLM would end all process groups, the trainer's and those of other engines too."""
    import vllm.distributed.parallel_state as groups
    import vllm.v1.engine.core as core

    def end_groups() -> None:
        if ended == "its own":
            groups.destroy_model_parallel()
            if groups._WORLD is not None:
                groups._WORLD.destroy()
            groups._WORLD = groups._NODE_COUNT = None
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    whole = core.cleanup_dist_env_and_memory
    core.cleanup_dist_env_and_memory = whole if ended == "all" else end_groups
    try:
        yield
    finally:
        core.cleanup_dist_env_and_memory = whole
