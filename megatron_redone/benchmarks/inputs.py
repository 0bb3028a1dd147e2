"""Model folders, rows and pairs to measure on: random weights, a tokenizer trained on the texts, invented data.

All are functions of the seed. The weights say nothing: they serve to measure speed, not to train a model.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from tokenizers import AddedToken, Tokenizer as Backend, decoders, models, pre_tokenizers, trainers

from megatron_redone.checkpoint.hf_folder import write_safetensors
from megatron_redone.common.files import atomic_write_json
from megatron_redone.common.seeding import rng
from megatron_redone.curation.conversations import gold_conversation
from megatron_redone.curation.synthesize.config import TASK_NAMES
from megatron_redone.curation.synthesize.task_rows import TaskRows
from megatron_redone.models.config import ModelShape
from megatron_redone.models.families import shape_to_hf
from megatron_redone.models.weights import RandomWeights
from megatron_redone.tasks.row import Row

VOCAB_SIZE = 16_384
QWEN2_5_20M = ModelShape(
    family="qwen2_5", num_layers=8, hidden_size=384, ffn_hidden_size=1_152, num_heads=6, num_kv_heads=2, head_dim=64,
    vocab_size=VOCAB_SIZE, rope_theta=1e6, tie_embeddings=True, max_positions=4_096,
)  # fmt: skip

END_OF_TEXT, TURN_START, TURN_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
TEMPLATE = """\
{% for message in messages %}\
{{ ('' if loop.first else '\\n') + '<|im_start|>' + message.role + '\\n' }}\
{% if message.role == 'assistant' %}\
{% generation %}{{ message.content + '<|im_end|>' }}{% endgeneration %}\
{% else %}{{ message.content + '<|im_end|>' }}{% endif %}\
{% endfor %}\
{% if add_generation_prompt %}{{ '\\n<|im_start|>assistant\\n' }}{% endif %}"""
"""ChatML that ends with the end token of the last answer, and marks answers for trainers that look for the marks: so
both sides of a comparison read the same tokens and learn the same ones."""

PROMPT_WORDS = (5, 13, 41, 117, 486, 814, 1_953)
ANSWER_WORDS = (1, 16, 78, 227, 340, 413, 717)
QUANTILES = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)
"""Words of prompts and chosen answers of the 300 pairs in LLaMA-Factory's dpo_en_demo.json, at these quantiles."""


def train_tokenizer(texts: Sequence[str], folder: Path) -> None:
    """A byte-level BPE tokenizer of at most VOCAB_SIZE ids, saved in the form of a Hugging Face folder."""
    special = [END_OF_TEXT, TURN_START, TURN_END]
    backend = Backend(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE - len(special),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    backend.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    backend.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": TURN_END,
        "pad_token": END_OF_TEXT,
        "chat_template": TEMPLATE,
        "clean_up_tokenization_spaces": False,
    }
    atomic_write_json(folder / "tokenizer_config.json", config)


def write_model_folder(shape: ModelShape, texts: Sequence[str], folder: Path, seed: int) -> None:
    """A new folder with random weights and a tokenizer that is trained on the texts."""
    folder.mkdir(parents=True)
    train_tokenizer(texts, folder)
    write_safetensors(folder, RandomWeights(shape, seed).items())
    atomic_write_json(folder / "config.json", shape_to_hf(shape, "float32"))


def invented_rows(seed: int, per_task: int) -> list[Row]:
    """Rows of every task that rows can be written for, task by task."""
    return [row for task in TASK_NAMES for row in TaskRows(task, seed).rows("train", per_task)]


def row_texts(rows: Sequence[Row]) -> list[str]:
    """Every text of the rows' conversations."""
    return [message["content"] for row in rows for message in gold_conversation(row).messages]


def invented_pairs(rows: Sequence[Row], count: int, seed: int) -> Iterator[dict[str, Any]]:
    """Pairs of word salad from the rows' English words, with the lengths of real pairs."""
    english = sorted({word for text in row_texts(rows) for word in text.split() if word.isascii()})
    for number in range(count):
        random = rng(seed, "benchmark pair", number)
        prompt, chosen, rejected = (
            _salad(english, quantiles, random) for quantiles in (PROMPT_WORDS, ANSWER_WORDS, ANSWER_WORDS)
        )
        yield {
            "id": f"pair-{number}",
            "messages": [{"role": "user", "content": prompt}],
            "chosen_response": chosen,
            "rejected_response": f"{rejected} no",
        }


def _salad(words: Sequence[str], quantiles: Sequence[int], random: Random) -> str:
    length = round(float(np.interp(random.random(), QUANTILES, quantiles)))
    return " ".join(random.choices(words, k=max(1, length)))
