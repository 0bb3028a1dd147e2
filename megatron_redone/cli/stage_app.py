"""Commands that run one training stage by itself."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Settings = Annotated[
    list[str] | None,
    typer.Argument(help="A YAML file of settings, and settings as `key=value`; `seed=1` seeds everything random."),
]
Out = Annotated[Path | None, typer.Option(help="New folder for the result; without it the settings are printed.")]
Again = Annotated[bool, typer.Option("--again", help="Make it anew even if it stands.")]
Nproc = Annotated[int, typer.Option("--nproc", min=1, help="Processes on this host.")]
ExitAfter = Annotated[
    float | None, typer.Option(min=0, help="Checkpoint and end with code 75 after so long, for batch systems.")
]


def dpo_command(
    settings: Settings = None,
    out: Out = None,
    again: Again = False,
    nproc: Nproc = 1,
    exit_after_minutes: ExitAfter = None,
    backend: Annotated[
        str | None, typer.Option(help="native, or nemo-aligner: its own trainer drives our engine.")
    ] = None,
    nemo_config: Annotated[
        Path | None,
        typer.Option(help="YAML of NeMo-Aligner's train_gpt_dpo.py, read as settings; those given here go before it."),
    ] = None,
) -> None:
    """Preference optimisation on pairs: DPO, IPO, hinge and RPO losses with an SFT term.

    `redone dpo model=SFT/model pairs=PAIRS epochs=2 --out DPO`, where PAIRS is what `redone curate pairs` wrote, or a
    JSONL file with prompt, chosen_response and rejected_response. An interrupted command goes on where it was.
    """
    from megatron_redone.cli.stage import train_stage, with_nemo_config

    given = list(settings or [])
    if nemo_config is not None:
        given = with_nemo_config("dpo", given, nemo_config)
    train_stage("dpo", given + ([f"backend={backend}"] if backend else []), out, again, nproc, exit_after_minutes)


def rl_command(
    settings: Settings = None,
    out: Out = None,
    again: Again = False,
    nproc: Nproc = 1,
    exit_after_minutes: ExitAfter = None,
    backend: Annotated[
        str | None, typer.Option(help="native, or nemo-aligner: a trainer of its shape drives our engine.")
    ] = None,
    nemo_config: Annotated[
        Path | None,
        typer.Option(help="YAML in NeMo-Aligner's style (trainer.dapo, model.dapo), read as settings."),
    ] = None,
) -> None:
    """Reinforcement learning by DAPO on rows of tasks.

    `redone rl dapo.yaml model=SFT/model rows=ROWS --out RL`, where ROWS is a folder with rows.jsonl. An interrupted
    command goes on where it was.
    """
    from megatron_redone.cli.stage import train_stage, with_nemo_config

    given = list(settings or [])
    if nemo_config is not None:
        given = with_nemo_config("dapo", given, nemo_config)
    train_stage("dapo", given + ([f"backend={backend}"] if backend else []), out, again, nproc, exit_after_minutes)
