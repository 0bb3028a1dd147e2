"""`redone convert`, which is also `python -m checkpoints_conversion`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from megatron_redone.common.logging import CONSOLE
from megatron_redone.launch.environment import LaunchEnvironment, from_environ
from megatron_redone.launch.processes import redone_command, run_on_host
from megatron_redone.parallel.config import ParallelConfig


def to_megatron(hf: Path, out: Path, tp: int, pp: int) -> None:
    """Checks everything, then starts tp * pp ranks on this host (or is one of them) and converts."""
    from megatron_redone.conversion.to_megatron import check_to_megatron

    hf, out = hf.resolve(), out.resolve()
    layout = check_to_megatron(hf, out, tp, pp)
    place = from_environ(os.environ)
    num_ranks = layout.model_parallel_size()
    if place.world_size == 1 and num_ranks > 1:
        options = ["--hf", str(hf), "--out", str(out), "--tp", str(tp), "--pp", str(pp)]
        code = run_on_host(redone_command(["convert", "to-megatron", *options]), num_ranks, os.environ)
        if code:
            sys.exit(code)
        return
    _to_megatron_here(hf, out, layout, place)


def _to_megatron_here(hf: Path, out: Path, layout: ParallelConfig, place: LaunchEnvironment) -> None:
    from megatron_redone.conversion.to_megatron import to_megatron as convert
    from megatron_redone.parallel.context import build_context, shutdown

    context = build_context(layout, **place.rendezvous())
    model = convert(hf, out, context)
    if context.is_main:
        _say(
            f"{out}: {model.shape.family}, {len(model.tensors)} tensors, {model.shape.num_parameters():,} "
            f"parameters, {model.precision}, files for tp={layout.tp} pp={layout.pp} (any layout loads them)"
        )
    shutdown()


def to_hf(megatron: Path, out: Path) -> None:
    """Converts back in this process."""
    from megatron_redone.conversion.to_hf import to_hf as convert
    from megatron_redone.parallel.context import build_context, shutdown

    megatron, out = megatron.resolve(), out.resolve()
    shape = convert(megatron, out, build_context(ParallelConfig()))
    _say(f"{out}: {shape.family}, {shape.num_parameters():,} parameters")
    shutdown()


def _say(text: str) -> None:
    CONSOLE.print(text, markup=False, highlight=False, soft_wrap=True)
