"""A folder of tokenized shards: what its `tokens.json` says, and how a corpus is found in it. Imports no torch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from megatron_redone.common.errors import DataError
from megatron_redone.common.files import sha256_file
from megatron_redone.data.indexed_writer import with_suffix
from megatron_redone.data.tokenizer import Tokenizer

TOKENS_FILE = "tokens.json"
FORMAT_VERSION = 1
Split = Literal["train", "validation"]


@dataclass(frozen=True)
class TokenShards:
    """One split of a tokenized corpus.

    Attributes:
        folder: where it lies.
        prefixes: of its shards in order, without suffix; empty where the split is.
        eos_stored: whether documents end with the end token on disk.
        tokenizer: fingerprint of the tokenizer; None where Megatron's own tools made the shards.
        fingerprint: of the tokens: equal ones mean equal shards in equal order (of files without a `tokens.json`:
            equal indexes).
    """

    folder: Path
    prefixes: tuple[Path, ...]
    eos_stored: bool
    tokenizer: str | None
    fingerprint: str

    def check_tokenizer(self, tokenizer: Tokenizer) -> None:
        """Refuses tokens that another tokenizer made.

        Raises:
            DataError: says which fingerprints differ.
        """
        if self.tokenizer is not None and self.tokenizer != tokenizer.fingerprint:
            raise DataError(
                f"{self.folder}: made with the tokenizer {self.tokenizer[:12]}, but the one of this stage is "
                f"{tokenizer.fingerprint[:12]}; tokenise the text with the tokenizer of the model"
            )


def read_token_shards(folder: Path, split: Split = "train", eos_stored: bool = False) -> TokenShards:
    """A split of the folder that `tokenize` made, or of one with .bin and .idx files of Megatron's own tools.

    Args:
        eos_stored: of files without a `tokens.json`, which would say it; they have no split for validation.

    Raises:
        DataError: nothing of the kind is there, or the description is damaged.
    """
    path = folder / TOKENS_FILE
    if not path.is_file():
        prefixes = () if split == "validation" else tuple(_with_index(folder))
        if split == "train" and not prefixes:
            raise DataError(f"{folder}: neither {TOKENS_FILE} nor .idx files in it; tokenise the text first")
        indexes = "".join(f"{prefix.name} {sha256_file(with_suffix(prefix, '.idx'))}\n" for prefix in prefixes)
        return TokenShards(folder, prefixes, eos_stored, None, hashlib.sha256(indexes.encode()).hexdigest())
    described = read_description(folder)
    shards: Sequence[Mapping[str, Any]] = described["splits"].get(split, {}).get("shards", ())
    hashes = "".join(shard["bin_sha256"] + shard["idx_sha256"] for shard in shards)
    return TokenShards(
        folder,
        tuple(folder / shard["name"] for shard in shards),
        described["end_token_stored"],
        described["tokenizer"]["fingerprint"],
        hashlib.sha256(hashes.encode()).hexdigest(),
    )


def read_description(folder: Path) -> dict[str, Any]:
    """What `tokens.json` of a folder says.

    Raises:
        DataError: not JSON, or of another version.
    """
    path = folder / TOKENS_FILE
    try:
        described: dict[str, Any] = json.loads(path.read_bytes())
        version = described["format_version"]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: cannot be read ({error!r}); tokenise the text again") from error
    if version != FORMAT_VERSION:
        raise DataError(
            f"{path}: format version {version}, this library reads {FORMAT_VERSION}; tokenise the text again"
        )
    return described


def _with_index(folder: Path) -> list[Path]:
    return sorted(path.with_suffix("") for path in folder.glob("*.idx"))
