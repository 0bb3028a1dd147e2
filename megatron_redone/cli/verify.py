"""`redone verify-layout` and `redone verify-resume`."""

from __future__ import annotations

import difflib
import os
import platform
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import typer
from rich.table import Table

from megatron_redone.common.errors import InputError, RedoneError
from megatron_redone.common.files import atomic_write_json
from megatron_redone.common.logging import CONSOLE
from megatron_redone.launch.environment import from_environ
from megatron_redone.launch.processes import redone_command, run_on_host
from megatron_redone.verification.cases import parse_case, parse_resume
from megatron_redone.verification.config import LayoutCase, ResumeCase
from megatron_redone.verification.faults import FAULTS, RESUME_FAULTS, Fault

if TYPE_CHECKING:
    from megatron_redone.parallel.config import ParallelConfig
    from megatron_redone.parallel.context import ParallelContext


def verify_layouts(lines: Sequence[str], out: Path | None, plant: str | None = None) -> None:
    """Runs every case on as many ranks as it needs, compares with one process, prints and writes the result.

    Exits with 1 when a layout differs by more than rounding.

    Args:
        plant: a fault that is planted in every case.
    """
    _check_fault(plant, FAULTS)
    cases = sorted((parse_case(line) for line in lines), key=lambda case: case.world_size)
    results: list[dict[str, Any]] = []
    for size, members in groupby(cases, key=lambda case: case.world_size):
        results += list(_on_ranks(list(members), size, plant))
    _print(results)
    _write(results, out)


def _on_ranks(cases: list[LayoutCase], world_size: int, plant: str | None) -> Iterator[dict[str, Any]]:
    from megatron_redone.verification.ranks import compare_with_one_process

    with tempfile.TemporaryDirectory(prefix="redone-verify-") as folder:
        (Path(folder) / "cases.txt").write_text("\n".join(case.line for case in cases))
        CONSOLE.print(f"{len(cases)} case(s) on {world_size} rank(s)", highlight=False)
        _start_ranks(["verify-layout-rank", folder, *([plant] if plant else [])], world_size)
        for comparison in compare_with_one_process(cases, Path(folder)):
            yield asdict(comparison)


def _check_fault(name: str | None, known: Mapping[str, Fault]) -> None:
    """Prints what can be planted for `list`; refuses a name that is not known."""
    text = "\n".join(f"  {name}: {fault.what} ({fault.case})" for name, fault in known.items())
    if name == "list":
        CONSOLE.print(text, highlight=False, soft_wrap=True)
        raise typer.Exit
    if name is not None and name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        raise InputError(
            f"--plant {name}: no such fault; " + (f"did you mean {near[0]}?" if near else f"known:\n{text}")
        )


def verify_layouts_rank(folder: Path, plant: str | None) -> None:
    """What each rank of `verify_layouts` runs."""
    from megatron_redone.parallel.context import shutdown
    from megatron_redone.verification.ranks import run_on_this_rank

    cases = [parse_case(line) for line in (folder / "cases.txt").read_text().splitlines()]
    run_on_this_rank(cases, folder, _context_of, [plant] * len(cases))
    shutdown()


def verify_resumes(lines: Sequence[str], out: Path | None, plant: str | None = None) -> None:
    """Runs both sides of every case on as many ranks as each needs, prints and writes the certificates.

    Exits with 1 when a continuation differs from the run that was not interrupted.
    """
    from megatron_redone.verification.resume import certificates

    _check_fault(plant, RESUME_FAULTS)

    def sizes(case: ResumeCase) -> tuple[int, int]:
        return case.layout_case("save").world_size, case.layout_case("load").world_size

    results: list[dict[str, Any]] = []
    for (save, load), members in groupby(sorted(map(parse_resume, lines), key=sizes), key=sizes):
        cases = list(members)
        CONSOLE.print(f"{len(cases)} resume(s), saved on {save} and loaded on {load} rank(s)", highlight=False)
        with tempfile.TemporaryDirectory(prefix="redone-verify-") as folder:
            (Path(folder) / "cases.txt").write_text("\n".join(case.line for case in cases))
            for side, size in (("save", save), ("load", load)):
                _start_ranks(["verify-resume-rank", folder, side, *([plant] if plant else [])], size)
            results += [asdict(certificate) for certificate in certificates(cases, Path(folder))]
    table = Table("family, saved, loaded", "tensors after loading", "losses after it", "")
    for result in results:
        verdict = "[green]equal[/]" if result["passed"] else f"[red]differs: {result['first_difference']}[/]"
        losses = "in every bit" if result["loss_error"] == 0 else f"{result['loss_error']:.0e}"
        table.add_row(result["case"], f"{result['num_tensors']} compared", losses, verdict)
    CONSOLE.print(table)
    _write(results, out)


def verify_resumes_rank(folder: Path, side: Literal["save", "load"], plant: str | None) -> None:
    """What each rank of one side of `verify_resumes` runs."""
    from megatron_redone.parallel.context import shutdown
    from megatron_redone.verification.resume import run_on_this_rank

    cases = [parse_resume(line) for line in (folder / "cases.txt").read_text().splitlines()]
    run_on_this_rank(cases, side, folder, _context_of, [plant] * len(cases))
    shutdown()


def _start_ranks(arguments: list[str], world_size: int) -> None:
    if code := run_on_host(redone_command(arguments), world_size, os.environ):
        raise RedoneError(f"the ranks ended with exit code {code}; their last lines stand above")


def _context_of(layout: ParallelConfig) -> ParallelContext:
    from megatron_redone.parallel.context import build_context

    return build_context(layout, **from_environ(os.environ).rendezvous())


def _write(results: Sequence[dict[str, Any]], out: Path | None) -> None:
    """Writes the results, and ends with exit code 1 when one of them is bad."""
    if out is not None:
        atomic_write_json(out, {"versions": _versions(), "cases": results})
        CONSOLE.print(f"written: {out}", highlight=False)
    if not all(result["passed"] for result in results):
        raise typer.Exit(1)


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
