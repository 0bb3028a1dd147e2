"""The commands of `redone convert`, which is also `python -m checkpoints_conversion`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

convert_app = typer.Typer(help="Checkpoints between Hugging Face and Megatron.", no_args_is_help=True)


ConvertDtype = Annotated[str, typer.Option(help="Data type of all weights: keep (each its own), bf16 or fp32.")]
Processes = Annotated[int | None, typer.Option(min=1, help="Processes; by default one a core.")]


@convert_app.command("to-megatron")
def to_megatron_command(
    hf: Annotated[str, typer.Option(help="Hugging Face model folder, or `org/name` on the hub.")],
    out: Annotated[Path, typer.Option(help="New folder for the Megatron checkpoint.")],
    tp: Annotated[int, typer.Option(min=1, help="Tensor-parallel size the files are cut for.")] = 1,
    pp: Annotated[int, typer.Option(min=1, help="Pipeline-parallel size.")] = 1,
    vpp: Annotated[int, typer.Option(min=1, help="Chunks of a pipeline stage.")] = 1,
    ep: Annotated[int, typer.Option(min=1, help="Expert-parallel size.")] = 1,
    etp: Annotated[int | None, typer.Option(min=1, help="Tensor-parallel size of an expert; default tp / ep.")] = None,
    dtype: ConvertDtype = "keep",
    layers: Annotated[
        str | None, typer.Option(help="Keep only these layers, `0:4`: a smaller model for trials.")
    ] = None,
    processes: Processes = None,
) -> None:
    """Write a Hugging Face model as a Megatron torch_dist checkpoint, which any layout can load.

    The sizes say how the files are cut, so that the named layout reads its own parts only. A killed conversion goes on
    where it was when it is started again. Memory is that of the largest tensor, whatever the model.
    """
    from megatron_redone.cli.convert import to_megatron

    to_megatron(hf, out, {"tp": tp, "pp": pp, "vpp": vpp, "ep": ep, "etp": etp}, _dtype(dtype), layers, processes)


@convert_app.command("to-hf")
def to_hf_command(
    megatron: Annotated[Path, typer.Option(help="Megatron checkpoint folder, as to-megatron writes it.")],
    out: Annotated[Path, typer.Option(help="New Hugging Face model folder.")],
    shard_size: Annotated[str, typer.Option(help="Largest shard: 5GB, 500MB, 2GiB.")] = "5GB",
    dtype: ConvertDtype = "keep",
    processes: Processes = None,
) -> None:
    """Write a Megatron checkpoint as a Hugging Face model."""
    from megatron_redone.cli.convert import to_hf

    to_hf(megatron, out, shard_size, _dtype(dtype), processes)


@convert_app.command("verify")
def verify_conversion_command(
    hf: Annotated[str, typer.Option(help="The Hugging Face model folder, or `org/name` on the hub.")],
    megatron: Annotated[Path, typer.Option(help="The checkpoint folder made of it.")],
    out: Annotated[Path | None, typer.Option(help="JSON file for the certificate.")] = None,
    no_logits: Annotated[bool, typer.Option("--no-logits", help="Compare bytes only, in little memory.")] = False,
    processes: Processes = None,
) -> None:
    """Certify a conversion: every tensor accounted for, every byte the same, the same logits.

    The certificate lists every tensor with its hash and where it went. The exit code is 1 when something differs.
    """
    from megatron_redone.cli.convert import verify

    verify(hf, megatron, out, not no_logits, processes)


@convert_app.command("inspect")
def inspect_command(folder: Annotated[Path, typer.Argument(help="A model or checkpoint folder.")]) -> None:
    """Say what a folder of weights is: kind, family, size, layout, step, fingerprint."""
    from megatron_redone.cli.convert import inspect

    inspect(folder)


def _dtype(name: str) -> Literal["keep", "bf16", "fp32"]:
    known: dict[str, Literal["keep", "bf16", "fp32"]] = {"keep": "keep", "bf16": "bf16", "fp32": "fp32"}
    if name not in known:
        raise typer.BadParameter(f"{name!r} is none of {', '.join(known)}", param_hint="--dtype")
    return known[name]
