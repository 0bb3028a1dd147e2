"""`redone convert`, which is also `python -m checkpoints_conversion`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from megatron_redone.common.errors import InputError
from megatron_redone.common.logging import CONSOLE
from megatron_redone.launch.environment import default_threads
from megatron_redone.models.families import read_shape
from megatron_redone.parallel.config import ParallelConfig

if TYPE_CHECKING:
    from megatron_redone.conversion.to_megatron import Dtype

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
