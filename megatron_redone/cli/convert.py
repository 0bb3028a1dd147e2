"""`redone convert`, which is also `python -m checkpoints_conversion`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.table import Table

from megatron_redone.common.errors import InputError
from megatron_redone.common.files import atomic_write_json
from megatron_redone.common.logging import CONSOLE
from megatron_redone.launch.environment import default_threads
from megatron_redone.models.families import read_shape
from megatron_redone.parallel.config import ParallelConfig

if TYPE_CHECKING:
    from megatron_redone.conversion.to_megatron import Dtype
    from megatron_redone.conversion.verify import Verification

UNITS = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


def to_megatron(
    hf: str, out: Path, sizes: dict[str, int | None], dtype: Dtype, layers: str | None, processes: int | None
) -> None:
    """Converts on this host; `hf` is a folder, or a name on the hub, `sizes` those of the layout."""
    from megatron_redone.conversion.download import model_folder
    from megatron_redone.conversion.output import check_output
    from megatron_redone.conversion.to_megatron import ToMegatron

    check_output(out)
    folder = model_folder(hf).resolve()
    given = {name: size for name, size in sizes.items() if size is not None}
    if "etp" not in given and read_shape(folder).is_moe:  # experts are cut like the rest, unless they are spread
        given["etp"] = max(1, given["tp"] // given["ep"])
    job = ToMegatron(
        folder, out.resolve(), ParallelConfig.model_validate(given), dtype, _range(layers) if layers else None
    )
    model = job.run(processes or default_threads(1))
    cut = " ".join(f"{name}={getattr(job.layout, name)}" for name in ("tp", "pp", "vpp", "ep", "etp"))
    _say(
        f"{job.out}: {model.shape.family}, {len(model.tensors)} tensors, {model.shape.num_parameters():,} parameters, "
        f"files for {cut} (any layout loads them)"
    )


def to_hf(megatron: Path, out: Path, shard_size: str, dtype: Dtype, processes: int | None) -> None:
    """Converts back on this host."""
    from megatron_redone.conversion.to_hf import ToHF

    job = ToHF(megatron.resolve(), out.resolve(), _bytes(shard_size), dtype)
    shape = job.run(processes or default_threads(1))
    _say(f"{job.out}: {shape.family}, {shape.num_parameters():,} parameters")


def verify(hf: str, megatron: Path, out: Path | None, logits: bool, processes: int | None) -> None:
    """Compares both sides, prints what was found and writes the certificate; exit code 1 where they differ."""
    from megatron_redone.conversion.download import model_folder
    from megatron_redone.conversion.verify import Verification, summary
    from megatron_redone.recipes.workspace import machine, versions

    job = Verification(model_folder(hf).resolve(), megatron.resolve())
    certificate = job.certificate(processes or default_threads(1))
    if logits:
        certificate["logits"] = _compare_logits(job)
        certificate["passed"] = certificate["passed"] and certificate["logits"]["passed"]
    text = summary(certificate)
    if logits:
        found = certificate["logits"]
        text += (
            f"; logits {'agree' if found['passed'] else 'DIFFER'}: by {found['max_abs_difference']:.1e} at most, "
            f"cosine {found['min_cosine']:.7f}, best token equal in {found['top1_agreement']:.1%} of {found['tokens']}"
        )
    _say(text)
    if out is not None:
        atomic_write_json(out, certificate | {"machine": machine(), "versions": versions()})
        _say(f"written: {out}")
    if not certificate["passed"]:
        raise typer.Exit(1)


def _compare_logits(job: Verification) -> dict[str, Any]:
    from megatron_redone.conversion.logits import compare_logits
    from megatron_redone.parallel.context import build_context

    return compare_logits(job.hf, job.megatron, build_context(ParallelConfig()), job.layers)


def inspect(folder: Path) -> None:
    """Prints what the folder is."""
    from megatron_redone.conversion.inspect import inspect_folder

    table = Table(show_header=False)
    for name, value in inspect_folder(folder.resolve()).items():
        table.add_row(name, f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value))
    CONSOLE.print(table)


def _range(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+):(\d+)", text)
    if match is None:
        raise InputError(f"--layers {text}: not of the form FIRST:END, as in 0:4 for the first four layers")
    return int(match.group(1)), int(match.group(2))


def _bytes(text: str) -> int:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMG]?i?B?)", text, re.IGNORECASE)
    if match is None or match.group(2).upper() not in UNITS:
        raise InputError(f"--shard-size {text}: not a size; write 5GB, 500MB or 2GiB")
    return max(1, int(float(match.group(1)) * UNITS[match.group(2).upper()]))


def _say(text: str) -> None:
    CONSOLE.print(text, markup=False, highlight=False, soft_wrap=True)
