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
    allow_broadcast: Annotated[
        bool, typer.Option("--allow-broadcast", help="Take new weights over the network from a job that asks.")
    ] = False,
    ready_file: Annotated[
        Path | None, typer.Option(help="JSON file with the address, written when it answers.")
    ] = None,
) -> None:
    """Serve rollouts of a model with vLLM, as token ids, to jobs with `generation.engine=servers`.

    Whoever reaches the port can have completions made and, with a transfer folder or `--allow-broadcast`, weights
    loaded: keep it inside the cluster.
    """
    from megatron_redone.cli.serve import serve

    serve(model, host, port, transfer_folder, ready_file, overrides or [], allow_broadcast)


@generation_app.command("generate")
def generate_command(
    model: Annotated[Path, typer.Argument(help="Model folder.")],
    prompts: Annotated[Path, typer.Argument(help="JSONL: `id` with `prompt` or `messages`, or task rows.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="Settings of `generation`: `temperature=0.7 max_new_tokens=256`.")
    ] = None,
    out: Annotated[Path, typer.Option(help="JSONL for the answers.")] = Path("completions.jsonl"),
    engine: Annotated[str | None, typer.Option(help="megatron, vllm or servers.")] = None,
    samples: Annotated[int, typer.Option(min=1, help="Answers to each prompt.")] = 1,
    seed: Annotated[int, typer.Option(help="Seed of the draws.")] = 0,
    precision: Annotated[str, typer.Option(help="fp32 or bf16.")] = "fp32",
    chunk: Annotated[int, typer.Option(min=1, help="Prompts between two writes to disk.")] = 256,
    logprobs: Annotated[bool, typer.Option("--logprobs", help="Write the log-probability of every token.")] = False,
    token_ids: Annotated[bool, typer.Option("--token-ids", help="Write the token ids.")] = False,
    again: Annotated[bool, typer.Option("--again", help="Answer anew what is answered already.")] = False,
) -> None:
    """Answer a file of prompts into a file, with any engine; the same command goes on after an interruption.

    A line of the output has `id`, `outputs` (a text for each sample), `finish_reasons`, `num_tokens` and
    `prompt_tokens`. An answer depends on seed and id alone, so engines, chunks and interruptions do not change it.
    """
    from megatron_redone.cli.generate import generate

    chosen = [*([f"engine={engine}"] if engine else []), *(overrides or [])]
    generate(
        model,
        prompts,
        out,
        chosen,
        num_samples=samples,
        seed=seed,
        precision=precision,
        chunk=chunk,
        logprobs=logprobs,
        token_ids=token_ids,
        again=again,
    )
