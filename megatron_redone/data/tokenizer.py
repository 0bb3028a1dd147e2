"""What the library asks of a tokenizer, and how one is found in a folder. Imports no torch.

Text and control never mix. `encode` treats every text as text: a user who writes `<|im_end|>` gets the
tokens of those characters. Only `chat_template.py` (and code that asks `special_id`) places the ids of
special tokens.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from megatron_redone.common.errors import InputError
from megatron_redone.data.huggingface_tokenizer import HuggingFaceTokenizer
from megatron_redone.data.sentencepiece_tokenizer import SentencePieceTokenizer, train_sentencepiece
from megatron_redone.data.tokenizer_files import (
    CONFIG_FILE,
    HUGGINGFACE_FILE,
    SENTENCEPIECE_FILE,
    read_config,
)

__all__ = [
    "HuggingFaceTokenizer",
    "SentencePieceTokenizer",
    "Tokenizer",
    "load_tokenizer",
    "train_sentencepiece",
]


class Tokenizer(Protocol):
    """What the library asks of a tokenizer."""

    @property
    def vocab_size(self) -> int:
        """Number of ids, special ones included: every id is below it."""

    @property
    def eos_id(self) -> int:
        """Ends a document, and ends generation unless told otherwise."""

    @property
    def pad_id(self) -> int:
        """Fills what is never learnt."""

    @property
    def special_tokens(self) -> Mapping[str, int]:
        """Every token that `encode` cannot give, with its id."""

    @property
    def chat_template(self) -> str | None:
        """The Jinja template that came with the tokenizer."""

    @property
    def template_variables(self) -> Mapping[str, str]:
        """What a chat template may refer to: `eos_token`, `bos_token`, ..."""

    @property
    def fingerprint(self) -> str:
        """Hex digest of all that decides ids: equal fingerprints mean that token files can be exchanged."""

    def encode(self, text: str) -> list[int]:
        """The ids of a text; none is added and none is special, whatever the text spells.

        Raises:
            DataError: the text holds half of a surrogate pair.
        """

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """`encode` of each text, faster; the number of threads is the library's choice (TOKENIZERS_PARALLELISM).

        Raises:
            DataError: a text holds half of a surrogate pair (says which).
        """

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ids. Control tokens and ids outside the vocabulary are left out.

        Tokens that are special but part of an answer (`<think>`, `</think>`) are spelled out.
        """

    def special_id(self, token: str) -> int | None:
        """The id of a special token, None if the tokenizer has no such token."""

    def save(self, folder: Path) -> None:
        """Writes files from which `load_tokenizer` makes an equal tokenizer; other files there stay."""


def load_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer of a folder: ours (tokenizer.model) or a Hugging Face one (tokenizer.json).

    Raises:
        InputError: the folder holds none; DataError if its files are damaged.
    """
    config = read_config(folder)
    if config.get("kind") == "sentencepiece" and (folder / SENTENCEPIECE_FILE).is_file():
        return SentencePieceTokenizer.load(folder)
    if (folder / HUGGINGFACE_FILE).is_file():
        return HuggingFaceTokenizer.load(folder)
    found = "no tokenizer there" if folder.is_dir() else "no such folder"
    raise InputError(
        f"{folder}: {found}; a model folder needs {HUGGINGFACE_FILE} with {CONFIG_FILE}, or "
        f'{SENTENCEPIECE_FILE} with a {CONFIG_FILE} of kind "sentencepiece"; copy the files beside the '
        "weights or give another folder"
    )
