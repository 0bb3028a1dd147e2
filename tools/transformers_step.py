"""Measures training steps of transformers alone on CPU: forward, backward, AdamW, on one full row of random tokens.

    python tools/transformers_step.py --model OUT/model --precision bf16

The least that training a model with transformers can take: no trainer, no data, no padding, every token but the first
is learnt. Needs torch and transformers and imports nothing of this project. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import sys
import time
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

PRECISIONS = {"fp32": ("float32", False), "bf16": ("float32", True), "bf16-weights": ("bfloat16", False)}
"""Data type of the weights, and whether autocast to bf16 is on."""


def read_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, type=Path, help="Hugging Face folder")
    parser.add_argument("--sequence-length", type=int, default=1_024, help="tokens of the row")
    parser.add_argument("--steps", type=int, default=20, help="measured steps")
    parser.add_argument("--warmup", type=int, default=3, help="steps before them, not measured")
    parser.add_argument("--precision", choices=list(PRECISIONS), default="bf16")
    parser.add_argument("--attention", choices=("sdpa", "eager"), default="sdpa")
    parser.add_argument("--learning-rate", type=float, default=1e-5)
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, default=False, help="torch.compile")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="also write the JSON object to this file")
    return parser.parse_args(arguments)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Trains; returns what each measured step took, and the settings."""
    import torch
    from transformers import AutoModelForCausalLM

    weights, autocast = PRECISIONS[options.precision]
    model: Any = AutoModelForCausalLM.from_pretrained(
        options.model, dtype=weights, attn_implementation=options.attention, local_files_only=True
    )
    model.train()
    step_model = torch.compile(model) if options.compile else model
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=options.learning_rate, betas=(0.9, 0.95), weight_decay=0.1, fused=True
    )
    generator = torch.Generator().manual_seed(options.seed)
    seconds, cpu_seconds, losses = [], [], []
    for _ in range(options.warmup + options.steps):
        tokens = torch.randint(model.config.vocab_size, (1, options.sequence_length), generator=generator)
        start, used = time.perf_counter(), os.times()
        with torch.autocast("cpu", torch.bfloat16) if autocast else contextlib.nullcontext():
            loss = step_model(input_ids=tokens, labels=tokens, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(loss.item())
        seconds.append(time.perf_counter() - start)
        after = os.times()
        cpu_seconds.append(after.user + after.system - used.user - used.system)
    seconds, cpu_seconds, losses = (values[options.warmup :] for values in (seconds, cpu_seconds, losses))
    return {
        "useful_tokens_per_second": statistics.median(options.sequence_length / taken for taken in seconds),
        "step_seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "real_tokens": [options.sequence_length] * options.steps,
        "labelled_tokens": [options.sequence_length - 1] * options.steps,
        "padded_tokens": [0] * options.steps,
        "losses": losses,
        "settings": {name: str(v) if isinstance(v, Path) else v for name, v in vars(options).items()}
        | {"threads": torch.get_num_threads(), "parameters": model.num_parameters()},
        "versions": {name: metadata.version(name) for name in ("torch", "transformers")},
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Reads the options, measures, prints."""
    options = read_arguments(arguments)
    os.environ.update(HF_HUB_OFFLINE="1", HF_HUB_DISABLE_PROGRESS_BARS="1")  # before transformers is imported
    if options.compile:
        os.environ.pop("TORCHDYNAMO_DISABLE", None)
    text = json.dumps(measure(options))
    if options.out:
        options.out.write_text(text + "\n", encoding="utf-8")
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
