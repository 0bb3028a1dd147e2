"""Measures TRL's SFTTrainer on CPU, step by step: the peer of our own SFT.

    TRL_ENVIRONMENT/bin/python tools/trl_sft.py --model OUT/model --conversations OUT/conversations.jsonl

Runs in an environment made from requirements/trl.lock and imports nothing of this project. Fixed are best-fit packing
without padding, one packed row a step, answers alone are learnt, no gradient checkpointing, a constant learning rate,
no logging, no saving; the defaults of the options are the fastest that were found. Prints one JSON object. A step lasts
from the end of the step before it to its own end, so all that the trainer does for it counts.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

PRECISIONS = {
    "fp32": ("float32", False),
    "bf16": ("float32", True),  # TRL's default: weights in fp32, autocast to bf16
    "bf16-weights": ("bfloat16", True),  # weights, gradients and moments of Adam in bf16
}
"""Data type of the weights, and whether autocast is on."""
PACKAGES = ("torch", "transformers", "trl", "accelerate", "datasets")


def read_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, type=Path, help="Hugging Face folder with its tokenizer")
    parser.add_argument("--conversations", required=True, type=Path, help="JSONL with messages")
    parser.add_argument("--sequence-length", type=int, default=1_024, help="tokens of a packed row")
    parser.add_argument("--steps", type=int, default=20, help="measured steps")
    parser.add_argument("--warmup", type=int, default=6, help="steps before them, not measured; at least 1")
    parser.add_argument("--precision", choices=list(PRECISIONS), default="bf16")
    parser.add_argument("--attention", choices=("eager", "sdpa"), default="eager")
    parser.add_argument("--optimizer", choices=("adamw_torch_fused", "adamw_torch"), default="adamw_torch_fused")
    parser.add_argument("--learning-rate", type=float, default=1e-5)
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, default=True, help="torch.compile")
    parser.add_argument(
        "--labelled-positions-only",
        action="store_true",
        help="changes TRL: only labelled positions go through the head, as on GPUs; on CPU TRL scores all of them",
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="also write the JSON object to this file")
    return parser.parse_args(arguments)


def build_trainer(options: argparse.Namespace, work: str) -> tuple[Any, list[dict[str, float]]]:
    """A trainer over the conversations, and the list that each of its steps adds a record to."""
    import trl.trainer.utils
    from datasets import Dataset
    from transformers import AutoTokenizer, PrinterCallback, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    if options.labelled_positions_only:
        trl.trainer.utils._use_triton = lambda device: True  # asked there for nothing but the positions to score
    records: list[dict[str, float]] = []

    class CountingTrainer(SFTTrainer):
        def compute_loss(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
            loss = super().compute_loss(model, inputs, *args, **kwargs)
            records.append(
                {
                    "real_tokens": inputs["input_ids"].numel(),
                    "labelled_tokens": int((inputs["labels"][:, 1:] != -100).sum()),
                    "documents": int((inputs["position_ids"] == 0).sum()),
                    "losses": loss.item(),
                }
            )
            return loss

    class Clock(TrainerCallback):
        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            used = os.times()
            records[-1] |= {"clock": time.perf_counter(), "cpu_clock": used.user + used.system}

    weights, autocast = PRECISIONS[options.precision]
    config = SFTConfig(
        output_dir=work,
        model_init_kwargs={"dtype": weights, "attn_implementation": options.attention},
        use_cpu=True,
        bf16=autocast,
        gradient_checkpointing=False,
        packing=True,
        packing_strategy="bfd",
        max_length=options.sequence_length,
        assistant_only_loss=True,
        per_device_train_batch_size=1,
        gradient_accumulation_steps=1,
        max_steps=options.warmup + options.steps,
        optim=options.optimizer,
        learning_rate=options.learning_rate,
        lr_scheduler_type="constant",
        adam_beta1=0.9,
        adam_beta2=0.95,
        weight_decay=0.1,
        max_grad_norm=1.0,
        dataloader_num_workers=0,
        dataloader_pin_memory=False,
        torch_compile=options.compile,
        logging_strategy="no",
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        seed=options.seed,
    )
    lines = options.conversations.read_text(encoding="utf-8").splitlines()
    trainer = CountingTrainer(
        str(options.model),
        config,
        train_dataset=Dataset.from_list([{"messages": json.loads(line)["messages"]} for line in lines]),
        processing_class=AutoTokenizer.from_pretrained(options.model, local_files_only=True),
        callbacks=[Clock()],
    )
    trainer.remove_callback(PrinterCallback)
    return trainer, records


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Trains; returns what each measured step took and saw, and the settings."""
    import torch

    with tempfile.TemporaryDirectory() as work:
        trainer, records = build_trainer(options, work)
        trainer.train()
    rows = trainer.train_dataset
    clocks = records[options.warmup - 1 :]
    measured = clocks[1:]
    seconds = [after["clock"] - before["clock"] for before, after in zip(clocks, measured, strict=False)]
    cpu_seconds = [after["cpu_clock"] - before["cpu_clock"] for before, after in zip(clocks, measured, strict=False)]
    columns = {name: [r[name] for r in measured] for name in ("real_tokens", "labelled_tokens", "documents", "losses")}
    rates = [tokens / taken for tokens, taken in zip(columns["real_tokens"], seconds, strict=True)]
    return {
        "useful_tokens_per_second": statistics.median(rates),
        "step_seconds": seconds,
        "cpu_seconds": cpu_seconds,
        **columns,
        "padded_tokens": [0] * len(measured),  # one row a batch, as long as its documents together
        "set": {
            "rows": len(rows),
            "tokens": sum(len(row["input_ids"]) for row in rows),
            "labelled_tokens": sum(label != -100 for row in rows for label in row["labels"]),
        },
        "settings": {name: str(v) if isinstance(v, Path) else v for name, v in vars(options).items()}
        | {"threads": torch.get_num_threads()},
        "versions": {name: metadata.version(name) for name in PACKAGES},
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Reads the options, measures, prints."""
    options = read_arguments(arguments)
    if options.warmup < 1:
        sys.exit(f"error: --warmup {options.warmup} leaves no step that the first measured one starts from; give 1")
    # Before torch is imported, which reads them once.
    quiet = {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}
    os.environ.update(quiet, HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false")
    if options.compile:
        os.environ.pop("TORCHDYNAMO_DISABLE", None)
    text = json.dumps(measure(options))
    if options.out:
        options.out.write_text(text + "\n", encoding="utf-8")
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
