"""The commands of `redone nemo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

nemo_app = typer.Typer(help="Runs for NeMo's own container.", no_args_is_help=True)


@nemo_app.callback()
def nemo_callback() -> None:
    """Runs for NeMo's own container. (`redone dpo --backend nemo-aligner` needs none.)"""


@nemo_app.command("export")
def export_command(
    settings: Annotated[
        list[str], typer.Argument(help="What `redone dpo` takes: a YAML file of settings, and `key=value`.")
    ],
    out: Annotated[Path, typer.Option(help="New folder.")],
    image: Annotated[str, typer.Option(help="The container, as `srun --container-image` takes it.")],
    nodes: Annotated[int, typer.Option(min=1)] = 1,
    gpus_per_node: Annotated[int, typer.Option(min=1)] = 8,
    time_limit: Annotated[str, typer.Option("--time", help="As `sbatch --time` takes it.")] = "04:00:00",
    account: Annotated[str | None, typer.Option(help="Of Slurm.")] = None,
    partition: Annotated[str | None, typer.Option(help="Of Slurm.")] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Read the folder with NeMo-Aligner's classes (`make nemo-aligner`).")
    ] = False,
) -> None:
    """Write a DPO stage as a folder that NeMo-Aligner's `train_gpt_dpo.py` runs in NeMo's container.

    The folder holds the configuration, the model as a NeMo checkpoint, the tokenizer, the pairs and the scripts.
    A setting that NeMo-Aligner has no word for is refused by name. `--check` lets the real classes read all of it on
    this CPU, and compares tokens and log-probabilities with ours.
    """
    from megatron_redone.cli.nemo import export
    from megatron_redone.nemo_aligner.config import ContainerConfig

    container = ContainerConfig(
        image=image,
        nodes=nodes,
        gpus_per_node=gpus_per_node,
        time_limit=time_limit,
        account=account,
        partition=partition,
    )
    export(settings, out, container, check)
