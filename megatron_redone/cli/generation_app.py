"""The commands `redone serve` and `redone generate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

generation_app = typer.Typer()


@generation_app.command("serve")
def serve_command(
    model: Annotated[Path, typer.Argument(help="Hugging Face model folder.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="Settings of `generation`: `max_prompt_tokens=4096 vllm.dtype=bfloat16`.")
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen at; other nodes need `0.0.0.0`.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; 0 takes a free one.")] = 8600,
    transfer_folder: Annotated[
        Path | None, typer.Option(help="Shared folder that new weights are taken from; without it they never change.")
    ] = None,
    ready_file: Annotated[
        Path | None, typer.Option(help="JSON file with the address, written when it answers.")
    ] = None,
) -> None:
    """Serve rollouts of a model with vLLM, as token ids, to jobs with `generation.engine=servers`.

    Whoever reaches the port can have completions made and, with a transfer folder, weights loaded from it: keep it
    inside the cluster.
    """
    from megatron_redone.cli.serve import serve

    serve(model, host, port, transfer_folder, ready_file, overrides or [])
