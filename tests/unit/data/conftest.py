"""Small tokenizers for the tests: one trained with SentencePiece, one in the form of Hugging Face."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from tokenizers import AddedToken, Tokenizer as Backend, decoders, models, pre_tokenizers, trainers

from megatron_redone.data.tokenizer import (
    HuggingFaceTokenizer,
    SentencePieceTokenizer,
    train_sentencepiece,
)

# A template in the manner of thinking models: history without thoughts, the last answer always with one.
THINKING_TEMPLATE = """\
{%- set ns = namespace(last_user=0) %}
{%- for message in messages %}
    {%- if message.role == 'user' %}{% set ns.last_user = loop.index0 %}{% endif %}
{%- endfor %}
{%- for message in messages %}
    {{- '<|im_start|>' + message.role + '\\n' }}
    {%- if message.role == 'assistant' %}
        {%- set parts = message.content.split('</think>') %}
        {%- set thought = parts[0].split('<think>')[-1].strip('\\n') if parts|length > 1 else '' %}
        {%- if loop.index0 > ns.last_user %}{{ '<think>\\n' + thought + '\\n</think>\\n\\n' }}{% endif %}
        {{- parts[-1].lstrip('\\n') if parts|length > 1 else message.content }}
    {%- else %}
        {{- message.content }}
    {%- endif %}
    {{- '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and not enable_thinking %}
        {{- '<think>\\n\\n</think>\\n\\n' }}
    {%- endif %}
{%- endif %}
"""

TOKENIZER_VARIABLE = "REDONE_TEST_TOKENIZERS"


def make_corpus() -> list[str]:
    draw = random.Random(0)
    words = ["".join(draw.choices("abcdefghijklmnop", k=draw.randint(2, 7))) for _ in range(200)]
    signs = [chr(0x4E00 + draw.randrange(120)) for _ in range(200)]
    return [
        f"{' '.join(draw.choices(words, k=12))}, {draw.randrange(999)}!\n" + "".join(draw.choices(signs, k=9)) + "。"
        for _ in range(300)
    ]


@pytest.fixture(scope="session")
def corpus() -> list[str]:
    return make_corpus()


@pytest.fixture(scope="session")
def sentencepiece_folder(corpus: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sentencepiece")
    train_sentencepiece(corpus, folder, vocab_size=700, seed=0)
    return folder


@pytest.fixture(scope="session")
def sentencepiece_tokenizer(sentencepiece_folder: Path) -> SentencePieceTokenizer:
    return SentencePieceTokenizer.load(sentencepiece_folder)


@pytest.fixture(scope="session")
def huggingface_folder(corpus: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A byte-level BPE model with ChatML tokens; as in Qwen3, the think tokens are not flagged special."""
    folder = tmp_path_factory.mktemp("huggingface")
    backend = Backend(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    backend.train_from_iterator(corpus, trainer)
    for token in ("<|endoftext|>", "<|im_start|>", "<|im_end|>"):
        backend.add_special_tokens([AddedToken(token, special=True, normalized=False)])
    for token in ("<think>", "</think>"):
        backend.add_tokens([AddedToken(token, special=False, normalized=False)])
    backend.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": "<|im_end|>",
        "pad_token": {"content": "<|endoftext|>", "__type": "AddedToken"},
        "chat_template": THINKING_TEMPLATE,
        "clean_up_tokenization_spaces": False,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def huggingface_tokenizer(huggingface_folder: Path) -> HuggingFaceTokenizer:
    return HuggingFaceTokenizer.load(huggingface_folder)


@pytest.fixture(scope="session")
def real_folder() -> Callable[[str], Path]:
    """Finds the folder of a published tokenizer (`qwen3`, `qwen2.5`), or skips the test."""

    def find(name: str) -> Path:
        root = os.environ.get(TOKENIZER_VARIABLE)
        if root is None:
            pytest.skip(f"{TOKENIZER_VARIABLE} does not name a folder of published tokenizers")
        folder = Path(root) / name
        if not folder.is_dir():
            pytest.skip(f"no tokenizer {name} in the folder that {TOKENIZER_VARIABLE} names")
        return folder

    return find
