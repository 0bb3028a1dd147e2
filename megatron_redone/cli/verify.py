"""`redone verify-layout`."""

from __future__ import annotations

import difflib
import os
import platform
import tempfile
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import typer
from rich.table import Table

from megatron_redone.common.errors import InputError, RedoneError
from megatron_redone.common.files import atomic_write_json
from megatron_redone.common.logging import CONSOLE
from megatron_redone.launch.environment import from_environ
from megatron_redone.launch.processes import redone_command, run_on_host
from megatron_redone.verification.cases import parse_case
from megatron_redone.verification.config import LayoutCase
from megatron_redone.verification.faults import FAULTS


def verify_layouts(lines: Sequence[str], out: Path | None, plant: str | None = None) -> None:
    """Runs every case on as many ranks as it needs, compares with one process, prints and writes the result.

    Exits with 1 when a layout differs by more than rounding.

    Args:
        plant: a fault that is planted in every case.
    """
    if plant == "list":
        CONSOLE.print(list_faults(), highlight=False, soft_wrap=True)
        return
    if plant is not None and plant not in FAULTS:
        near = difflib.get_close_matches(plant, FAULTS, n=1)
        raise InputError(f"--plant {plant}: no such fault; " + (f"did you mean {near[0]}?" if near else list_faults()))
    cases = sorted((parse_case(line) for line in lines), key=lambda case: case.world_size)
    results: list[dict[str, Any]] = []
    for size, members in groupby(cases, key=lambda case: case.world_size):
        results += list(_on_ranks(list(members), size, plant))
    _print(results)
    if out is not None:
        atomic_write_json(out, {"versions": _versions(), "cases": results})
        CONSOLE.print(f"written: {out}", highlight=False)
    if not all(result["passed"] for result in results):
        raise typer.Exit(1)


def _on_ranks(cases: list[LayoutCase], world_size: int, plant: str | None) -> Iterator[dict[str, Any]]:
    from megatron_redone.verification.ranks import compare_with_one_process

    with tempfile.TemporaryDirectory(prefix="redone-verify-") as folder:
        (Path(folder) / "cases.txt").write_text("\n".join(case.line for case in cases))
        CONSOLE.print(f"{len(cases)} case(s) on {world_size} rank(s)", highlight=False)
        command = redone_command(["verify-layout-rank", folder, *([plant] if plant else [])])
        if code := run_on_host(command, world_size, os.environ):
            raise RedoneError(f"the ranks ended with exit code {code}; their last lines stand above")
        for comparison in compare_with_one_process(cases, Path(folder)):
            yield comparison.to_json()


def list_faults() -> str:
    """What can be planted, a line a fault with a case that shows it."""
    return "known:\n" + "\n".join(f"  {name}: {fault.what} ({fault.case})" for name, fault in FAULTS.items())


def verify_layouts_rank(folder: Path, plant: str | None) -> None:
    """What each rank of `verify_layouts` runs."""
    from megatron_redone.parallel.config import ParallelConfig
    from megatron_redone.parallel.context import ParallelContext, build_context, shutdown
    from megatron_redone.verification.ranks import run_on_this_rank

    place = from_environ(os.environ)

    def context_of(layout: ParallelConfig) -> ParallelContext:
        return build_context(
            layout,
            rank=place.rank,
            world_size=place.world_size,
            local_rank=place.local_rank,
            master_addr=place.master_addr,
            master_port=place.master_port,
        )

    cases = [parse_case(line) for line in (folder / "cases.txt").read_text().splitlines()]
    run_on_this_rank(cases, folder, context_of, [plant] * len(cases))
    shutdown()


def _print(results: Sequence[dict[str, Any]]) -> None:
    table = Table("case", "loss", "gradient", "weights", "")
    for result in results:
        verdict = "[green]equal[/]" if result["passed"] else f"[red]differs: {result['first_difference']}[/]"
        errors = [f"{result[f'{name}_error']:.0e}" for name in ("loss", "gradient", "weight")]
        table.add_row(result["case"], *errors, verdict)
    CONSOLE.print(table)
    CONSOLE.print(
        "Largest differences from one process: of a loss, relative; of a gradient, as a share of its tensor's largest "
        "entry; of a weight after the last step, as a share of its tensor's movement.",
        highlight=False,
    )


def _versions() -> dict[str, str]:
    import torch
    from megatron.core import __version__ as megatron_version

    from megatron_redone.version import __version__

    return {
        "megatron_redone": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "megatron-core": megatron_version,
    }
