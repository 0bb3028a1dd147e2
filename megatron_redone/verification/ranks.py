"""Runs layout cases on the ranks of one process group, started once, and compares them with one process."""

from __future__ import annotations

import contextlib
import resource
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch

from megatron_redone.parallel.config import ParallelConfig
from megatron_redone.parallel.context import ParallelContext, build_context
from megatron_redone.verification.config import LayoutCase
from megatron_redone.verification.faults import planted
from megatron_redone.verification.layout import Comparison, compare, gates_of, reference, trajectory


def run_on_this_rank(
    cases: Sequence[LayoutCase],
    folder: Path,
    context_of: Callable[[ParallelConfig], ParallelContext],
    faults: Sequence[str | None] = (),
) -> None:
    """Every case in turn on this rank; rank 0 saves what each gave as `folder/INDEX.pt`.

    Args:
        context_of: makes the context of a layout on the running process group.
        faults: what is to be broken in each case, by its name in `faults.py`; by default nothing.
    """
    prepare_rank()
    for index, case in enumerate(cases):
        context = context_of(case.layout)
        with planted(faults[index] if faults else None):
            found = trajectory(case, context, case.microbatches)
        if context.is_main:
            torch.save(found, folder / f"{index}.pt")


def compare_with_one_process(cases: Sequence[LayoutCase], folder: Path) -> Iterator[Comparison]:
    """Compares each saved trajectory with that of this process; equal ones are computed once."""
    references: dict[str, dict[str, object]] = {}
    for index, case in enumerate(cases):
        alone = case.model_copy(
            update={"layout": ParallelConfig(precision=case.layout.precision), "dp": 1}
            | ({} if case.aux_loss else {"microbatches": 1})
        )
        if alone.line not in references:
            references[alone.line] = reference(alone, build_context(alone.layout))
        found = torch.load(folder / f"{index}.pt", weights_only=True)
        yield compare(case, found, references[alone.line], gates_of(case))


def prepare_rank() -> None:
    """Settings of a process that runs many layouts in turn."""
    torch.set_num_threads(1)
    # Each new layout makes new groups, whose sockets torch keeps open until the process ends.
    with contextlib.suppress(ValueError, OSError):
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
