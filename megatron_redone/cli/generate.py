"""`redone generate`: a file of prompts in, a file of completions out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from megatron_redone.common.errors import InputError
from megatron_redone.common.logging import CONSOLE
from megatron_redone.config.loading import apply_overrides, validate
from megatron_redone.generation.config import GenerationConfig
from megatron_redone.parallel.config import ParallelConfig

BEYOND_THE_SETTINGS = ("servers", "vllm", "max_sequences")
"""Settings that do not decide the answers: where and how fast they are made."""


def generate(
    model: Path,
    prompts: Path,
    out: Path,
    overrides: Sequence[str],
    *,
    num_samples: int,
    seed: int,
    precision: str,
    chunk: int,
    logprobs: bool,
    token_ids: bool,
    again: bool,
) -> None:
    """Answers every prompt; the same command goes on with an unfinished output, and does nothing for a finished one."""
    config = validate(GenerationConfig, apply_overrides({}, overrides), "settings")
    layout = validate(ParallelConfig, {"precision": precision}, "--precision")
    from megatron_redone.checkpoint.hf_config import companion_folder
    from megatron_redone.data.chat_template import ChatTemplate
    from megatron_redone.data.tokenizer import load_tokenizer
    from megatron_redone.generation.base import GenerationEngine
    from megatron_redone.generation.factory import engine_for_folder
    from megatron_redone.generation.to_file import (
        OutputOptions,
        generate_to_file,
        is_done,
        model_identity,
        prompts_identity,
        read_prompts,
    )
    from megatron_redone.parallel.context import build_context, shutdown
    from megatron_redone.training.stop import install_stop_signals, stop_signal, stopped

    if out.resolve() == prompts.resolve():
        raise InputError(f"--out {out} is the file of prompts; give another name")
    asked = read_prompts(prompts)
    template = ChatTemplate(load_tokenizer(companion_folder(model)))
    settings: dict[str, Any] = config.model_dump(mode="json", exclude=set(BEYOND_THE_SETTINGS))
    identity = {
        "model": model_identity(model),
        "prompts": prompts_identity(prompts),
        "settings": settings,
        "samples": num_samples,
        "seed": seed,
        "precision": precision,
        "logprobs": logprobs,
        "token_ids": token_ids,
    }
    if not again and is_done(out, identity):
        _say(f"{out}: done before, from the same model, prompts and settings; --again makes it anew")
        return
    context = build_context(layout)

    def engine() -> GenerationEngine:
        return engine_for_folder(config, model, context, template.tokenizer.fingerprint)

    def check_stop() -> None:
        if stop_signal():
            raise stopped(f"{out}: stopped between two chunks; the same command goes on from there", stop_signal())

    install_stop_signals(None)
    try:
        counts = generate_to_file(
            asked,
            engine,
            template,
            config,
            out,
            identity,
            num_samples=num_samples,
            seed=seed,
            options=OutputOptions(logprobs, token_ids),
            chunk=chunk,
            check_stop=check_stop,
        )
    finally:
        shutdown()
    _say(", ".join(f"{name.replace('_', '-')}: {count:,}" for name, count in counts.items()))
    _say(f"written: {out}")


def _say(text: str) -> None:
    CONSOLE.print(text, markup=False, highlight=False, soft_wrap=True)
