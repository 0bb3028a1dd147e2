"""Writes what training speed is measured on: a model with random weights and conversations to train it on.

    python tools/make_benchmark_inputs.py --out runs/benchmark
    python tools/make_benchmark_inputs.py --out runs/benchmark --sns-bench FOLDER   # real rows

`OUT/model` is a Qwen3 model folder whose tokenizer is trained on the conversations, `OUT/conversations.jsonl` holds
them, none longer than `--max-tokens`. Both are a function of the rows and the seed. The weights say nothing: the folder
serves to measure speed and to compare losses, not to train a model.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from megatron_redone.benchmarks.inputs import VOCAB_SIZE, invented_rows, write_model_folder
from megatron_redone.common.errors import DataError, RedoneError
from megatron_redone.common.files import atomic_directory
from megatron_redone.common.seeding import rng
from megatron_redone.conversion.output import check_output
from megatron_redone.curation.config import SNS_BENCH_FILES, SNSBenchRowsConfig
from megatron_redone.curation.conversations import TrainingConversation, gold_conversation, write_conversations
from megatron_redone.curation.sns_bench_rows import SPLITS, sns_bench_rows
from megatron_redone.data.chat_template import ChatTemplate
from megatron_redone.data.tokenizer import load_tokenizer
from megatron_redone.models.config import ModelShape
from megatron_redone.models.presets import get_preset
from megatron_redone.tasks.row import Row

SHAPES = {
    "20m": ModelShape(
        family="qwen3", num_layers=8, hidden_size=384, ffn_hidden_size=1_152, num_heads=6, num_kv_heads=3, head_dim=64,
        vocab_size=VOCAB_SIZE, rope_theta=1e6, tie_embeddings=True, max_positions=4_096,
    ),
    "30m": get_preset("qwen3-30m"),
}  # fmt: skip

SYNTHETIC_ROWS_PER_TASK = 400
MAX_REFUSED_SHARE = 0.2
NO_WORD_LIMIT = 1_000_000  # --max-tokens decides


def benchmark_rows(sns_bench: Path | None, seed: int) -> list[Row]:
    """Rows of every known file of SNS-Bench in that folder, or invented ones."""
    if sns_bench is None:
        return invented_rows(seed, SYNTHETIC_ROWS_PER_TASK)
    config = SNSBenchRowsConfig(tasks=SNS_BENCH_FILES, max_prompt_words=NO_WORD_LIMIT)
    found = sns_bench_rows(config, sns_bench, MAX_REFUSED_SHARE, seed)
    return [row for split in SPLITS for row in found.rows[split]]


def fitting(
    conversations: Sequence[TrainingConversation], model: Path, max_tokens: int, count: int
) -> tuple[list[TrainingConversation], int]:
    """The first `count` conversations of at most `max_tokens` tokens, and their tokens in all."""
    template = ChatTemplate(load_tokenizer(model))
    kept: list[TrainingConversation] = []
    num_tokens = 0
    for conversation in conversations:
        length = len(template.training_ids(conversation.messages).token_ids)
        if length <= max_tokens and len(kept) < count:
            kept.append(conversation)
            num_tokens += length
    if not kept:
        raise DataError(f"no conversation has at most --max-tokens {max_tokens} tokens; raise it")
    return kept, num_tokens


def main(arguments: Sequence[str] | None = None) -> int:
    """Reads the options, writes the folder, returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True, type=Path, help="new folder")
    parser.add_argument("--sns-bench", type=Path, help="folder with the JSON files of SNS-Bench; default invented rows")
    parser.add_argument("--shape", choices=list(SHAPES), default="20m", help="parameters of the model")
    parser.add_argument("--conversations", type=int, default=2_000, help="how many to write")
    parser.add_argument("--max-tokens", type=int, default=1_024, help="longer conversations are left out")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    shape = SHAPES[options.shape]
    try:
        check_output(options.out)
        rows = benchmark_rows(options.sns_bench, options.seed)
        rng(options.seed, "benchmark conversations").shuffle(rows)
        conversations = [gold_conversation(row) for row in rows]
        with atomic_directory(options.out) as work:
            model = work / "model"
            texts = [message["content"] for c in conversations for message in c.messages]
            write_model_folder(shape, texts, model, options.seed)
            kept, num_tokens = fitting(conversations, model, options.max_tokens, options.conversations)
            write_conversations(work / "conversations.jsonl", kept)
    except RedoneError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    print(f"{options.out}: {shape.num_parameters():,} parameters; {len(kept):,} conversations, {num_tokens:,} tokens")
    return 0


if __name__ == "__main__":
    sys.exit(main())
