"""Tiny model folders in the form of Hugging Face: random weights with a tokenizer and a chat template."""

from __future__ import annotations

import json
import random
from pathlib import Path

from tokenizers import AddedToken, Tokenizer as Backend, decoders, models, pre_tokenizers, processors, trainers

from megatron_redone.checkpoint.hf_folder import write_safetensors
from megatron_redone.common.files import atomic_write_json
from megatron_redone.models.families import shape_to_hf
from megatron_redone.models.presets import get_preset
from megatron_redone.verification.layout import SpreadWeights

WORDS = ("sock", "sea", "dry", "wool", "kayak", "seven", "three", "what", "is", "the", "answer", "question", "bring")

CHATML = """\
{{- bos_token if bos_token is defined and bos_token else '' }}
{%- for message in messages %}
{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}{% endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}
{%- if enable_thinking is defined and not enable_thinking %}{{ '<think>\\n\\n</think>\\n\\n' }}{% endif %}{% endif %}"""


def sentences(count: int, seed: int = 0) -> list[str]:
    """Sentences of a few words, numbers and signs."""
    draw = random.Random(seed)
    return [
        f"{' '.join(draw.choices(WORDS, k=draw.randint(4, 12)))} {draw.randrange(99)}{draw.choice('.?!')}\n"
        for _ in range(count)
    ]


def write_tokenizer(folder: Path, *, begin_token: bool = False) -> int:
    """A byte-level BPE with ChatML and think tokens; returns its number of ids.

    Args:
        begin_token: whether a begin token is put before every text, as Llama's tokenizer does.
    """
    backend = Backend(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=330, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    backend.train_from_iterator(sentences(300), trainer)
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *(["<|begin|>"] if begin_token else [])]
    backend.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    backend.add_tokens([AddedToken(token, special=False, normalized=False) for token in ("<think>", "</think>")])
    if begin_token:
        begin = ("<|begin|>", backend.token_to_id("<|begin|>"))
        backend.post_processor = processors.TemplateProcessing(single="<|begin|> $A", special_tokens=[begin])
    folder.mkdir(parents=True, exist_ok=True)
    backend.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "chat_template": CHATML,
        "clean_up_tokenization_spaces": False,
        **({"bos_token": "<|begin|>"} if begin_token else {}),
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    ends = {"eos_token_id": backend.token_to_id("<|im_end|>"), "pad_token_id": backend.token_to_id("<|endoftext|>")}
    (folder / "generation_config.json").write_text(json.dumps(ends), encoding="utf-8")
    return int(backend.get_vocab_size(with_added_tokens=True))


def write_model(folder: Path, family: str, *, begin_token: bool = False, seed: int = 5) -> Path:
    """A whole model folder of a family (`qwen3`, `llama`, ...) with weights that tell tokens apart."""
    num_ids = write_tokenizer(folder, begin_token=begin_token)
    shape = get_preset(f"{family}-tiny").model_copy(update={"vocab_size": num_ids})
    weights = SpreadWeights(shape, seed)
    write_safetensors(folder, ((name, weights[name]) for name in weights))
    atomic_write_json(folder / "config.json", shape_to_hf(shape, "float32"))
    return folder
