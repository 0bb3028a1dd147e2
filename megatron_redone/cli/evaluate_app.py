"""`redone evaluate`: its options, and which code runs which benchmark."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import typer


@dataclass(frozen=True)
class EvaluateOptions:
    """What the command line asks for; a benchmark takes what it knows."""

    benchmark: str
    data: Path
    out: Path
    model: Path | None
    predictions: Path | None
    engine: Literal["megatron", "vllm"]
    precision: Literal["fp32", "bf16"]
    prompt_set: Path | None
    embedder: str | None
    """None: the published one if it can be had."""
    files: tuple[str, ...]
    limit: int | None
    batch_size: int
    max_new_tokens: int | None
    max_prompt_tokens: int | None
    temperature: float
    top_p: float
    seed: int
    tasks: tuple[str, ...] = ()
    num_fewshot: int | None = None
    chat_template: bool | None = None
    thinking: bool | None = None


def _official_files(options: EvaluateOptions) -> None:
    from megatron_redone.cli.evaluate_files import evaluate_files

    evaluate_files(options)


def _online(options: EvaluateOptions) -> None:
    from megatron_redone.cli.evaluate_online import evaluate_online

    evaluate_online(options)


def _general(options: EvaluateOptions) -> None:
    from megatron_redone.cli.evaluate_general import evaluate_general

    evaluate_general(options)


RUNNERS: Mapping[str, Callable[[EvaluateOptions], None]] = {
    "sns-bench": _official_files,
    "sns-transbench": _official_files,
    "online-harmful": _online,
    "online-search": _online,
    "general-bench": _general,
}
"""By benchmark: what runs it. Each writes results.json and scores.jsonl (evaluation/results.py) into `out`."""


def evaluate_command(
    benchmark: Annotated[str, typer.Option(help=f"One of {', '.join(RUNNERS)}.")],
    data: Annotated[Path, typer.Option(help="Folder with the benchmark's files, or a part of them.")],
    out: Annotated[Path, typer.Option(help="Folder for results.json, scores.jsonl, failures.jsonl, evaluation.html.")],
    model: Annotated[
        Path | None, typer.Option(help="Model that answers: a Hugging Face folder or a Megatron checkpoint.")
    ] = None,
    predictions: Annotated[
        Path | None, typer.Option(help='Answers to score: lines of {"file", "index" (from 0), "output"}.')
    ] = None,
    engine: Annotated[str, typer.Option(help="megatron (in process) or vllm.")] = "megatron",
    precision: Annotated[str, typer.Option(help="fp32 or bf16, which is quicker and rounds.")] = "fp32",
    prompt_set: Annotated[
        Path | None, typer.Option(help="YAML or JSON: by file `system` and `user` templates with {fields}.")
    ] = None,
    embedder: Annotated[
        str | None,
        typer.Option(
            help="Model of QueryGen's cosine, by name or path (BAAI/bge-large-en-v1.5); `none` leaves the cosine out."
        ),
    ] = None,
    file: Annotated[
        list[str] | None, typer.Option(help="Only this file of the folder; may be given several times.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first rows of each file.")] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Prompts answered at once.")] = 32,
    max_new_tokens: Annotated[
        int | None, typer.Option(min=1, help="Room for every answer; by default what each task needs.")
    ] = None,
    max_prompt_tokens: Annotated[
        int | None, typer.Option(min=1, help="Longer prompts keep their last tokens; by default what the model holds.")
    ] = None,
    temperature: Annotated[float, typer.Option(min=0.0, help="0 takes the most likely token.")] = 0.0,
    top_p: Annotated[float, typer.Option(min=0.0, max=1.0, help="Used with a temperature.")] = 1.0,
    seed: Annotated[int, typer.Option(help="Seed of sampling.")] = 0,
    tasks: Annotated[
        list[str] | None,
        typer.Option(help="general-bench: redone-general, redone2-general, or names: gsm8k,ifeval,lm-eval:arc_easy."),
    ] = None,
    num_fewshot: Annotated[int | None, typer.Option(min=0, help="general-bench: examples before a question.")] = None,
    chat_template: Annotated[
        bool | None, typer.Option(help="general-bench: ask in the model's chat template; by default if it has one.")
    ] = None,
    thinking: Annotated[
        bool | None, typer.Option(help="general-bench: the template's thinking switch; by default the template's.")
    ] = None,
) -> None:
    """Score a model, or a file of answers, on a published benchmark exactly as its official scorer does.

    With the ceiling that gold answers reach, baselines without a model, 95% intervals and failures to read.
    `redone evaluate --benchmark sns-bench --data sns_bench/ --predictions answers.jsonl --out scores/`
    """
    from megatron_redone.common.errors import InputError

    if benchmark not in RUNNERS:
        raise InputError(f"--benchmark {benchmark}: unknown; give one of {', '.join(RUNNERS)}")
    if engine not in ("megatron", "vllm"):
        raise InputError(f"--engine {engine}: unknown; give megatron or vllm")
    if precision not in ("fp32", "bf16"):
        raise InputError(f"--precision {precision}: unknown; give fp32 or bf16")
    if (model is None) == (predictions is None):
        raise InputError("give either --model (it answers) or --predictions (answers to score), one of the two")
    RUNNERS[benchmark](
        EvaluateOptions(
            benchmark=benchmark,
            data=data,
            out=out,
            model=model,
            predictions=predictions,
            engine="vllm" if engine == "vllm" else "megatron",
            precision="bf16" if precision == "bf16" else "fp32",
            prompt_set=prompt_set,
            embedder=embedder,
            files=tuple(file or ()),
            limit=limit,
            batch_size=batch_size,
            max_new_tokens=max_new_tokens,
            max_prompt_tokens=max_prompt_tokens,
            temperature=temperature,
            top_p=top_p,
            seed=seed,
            tasks=tuple(tasks or ()),
            num_fewshot=num_fewshot,
            chat_template=chat_template,
            thinking=thinking,
        )
    )
