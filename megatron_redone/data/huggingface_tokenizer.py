"""The tokenizer of a Hugging Face model folder, without transformers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import tokenizers

from megatron_redone.common.errors import DataError
from megatron_redone.common.files import atomic_write_bytes
from megatron_redone.data.conversation import check_unicode
from megatron_redone.data.tokenizer_files import (
    CONFIG_FILE,
    HUGGINGFACE_FILE,
    TEMPLATE_FILE,
    json_object,
    template_of_config,
)


class HuggingFaceTokenizer:
    """A `tokenizer.json` run by the `tokenizers` library.

    Gives the ids that transformers' tokenizer gives with `add_special_tokens=False` for text that spells no
    added token. Text is normalised as the file says (Qwen: NFC), so `decode(encode(text))` is the normalised
    text.

    Args:
        files: name -> content of tokenizer.json, tokenizer_config.json and, where there is one,
            chat_template.jinja.
        where: the folder for error messages.

    Raises:
        DataError: a damaged file, no `eos_token`, or a tokenizer that cannot keep special tokens out of text.
    """

    def __init__(self, files: Mapping[str, bytes], where: str = "tokenizer") -> None:
        self._files = dict(files)
        config = json_object(files.get(CONFIG_FILE, b"{}"), f"{where}/{CONFIG_FILE}")
        self._backend, special_flags = _build_backend(files[HUGGINGFACE_FILE], config, f"{where}/{HUGGINGFACE_FILE}")
        vocabulary = self._backend.get_vocab(with_added_tokens=True)
        self.vocab_size = max(vocabulary.values()) + 1
        self.special_tokens: Mapping[str, int] = {
            token: vocabulary[token] for token in special_flags if token in vocabulary
        }
        self.template_variables: Mapping[str, str] = {
            name: text
            for name in ("bos_token", "eos_token", "pad_token", "unk_token")
            if (text := _token_text(config.get(name))) is not None
        }
        eos_id = vocabulary.get(self.template_variables.get("eos_token", ""))
        if eos_id is None:
            raise DataError(
                f"{where}/{CONFIG_FILE}: eos_token is {config.get('eos_token')!r}, which is no token of "
                f"{HUGGINGFACE_FILE}; name the token that ends an answer"
            )
        self.eos_id = eos_id
        self.pad_id = vocabulary.get(self.template_variables.get("pad_token", ""), eos_id)
        self.chat_template = _chat_template(files, config, where)
        add_bos = config.get("add_bos_token")
        self._add_bos_token: bool | None = add_bos if isinstance(add_bos, bool) else None
        flagged = {vocabulary[token] for token in self.special_tokens if special_flags[token]}
        self._hidden = flagged | {self.eos_id, self.pad_id}
        self._check_text_stays_text(f"{where}/{HUGGINGFACE_FILE}")
        identity = b"\0".join([files[HUGGINGFACE_FILE], str(self.eos_id).encode(), str(self.pad_id).encode()])
        self.fingerprint = hashlib.sha256(identity).hexdigest()

    @classmethod
    def load(cls, folder: Path) -> HuggingFaceTokenizer:
        """Reads the files of a folder."""
        names = (HUGGINGFACE_FILE, CONFIG_FILE, TEMPLATE_FILE)
        files = {name: (folder / name).read_bytes() for name in names if (folder / name).is_file()}
        return cls(files, str(folder))

    def _check_text_stays_text(self, where: str) -> None:
        special_ids = set(self.special_tokens.values())
        for token in self.special_tokens:
            if not special_ids.isdisjoint(self.encode(token)):
                raise DataError(
                    f"{where}: a text that spells {token!r} becomes that special token, so users could end "
                    "turns; use one whose model cannot produce its special tokens from text (byte-level BPE)"
                )

    def encode(self, text: str) -> list[int]:
        """See `Tokenizer.encode`."""
        check_unicode(text, "text")
        return self._backend.encode(text, add_special_tokens=False).ids

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """See `Tokenizer.encode_batch`."""
        for number, text in enumerate(texts):
            check_unicode(text, f"text {number} of the batch")
        return [found.ids for found in self._backend.encode_batch_fast(list(texts), add_special_tokens=False)]

    def decode(self, ids: Iterable[int]) -> str:
        """See `Tokenizer.decode`."""
        shown = [int(i) for i in ids if i not in self._hidden and 0 <= i < self.vocab_size]
        return self._backend.decode(shown, skip_special_tokens=False)

    def special_id(self, token: str) -> int | None:
        """See `Tokenizer.special_id`."""
        return self.special_tokens.get(token)

    @cached_property
    def text_prefix_ids(self) -> tuple[int, ...]:
        """What the model's authors put before a bare text (Llama: the begin token; Qwen: nothing).

        From `add_bos_token` of the config, else from the post-processor of the tokenizer file. `encode` never adds it.
        """
        if self._add_bos_token is not None:
            begin = self.special_id(self.template_variables.get("bos_token", ""))
            return (begin,) if self._add_bos_token and begin is not None else ()
        whole = self._backend.encode("a", add_special_tokens=True).ids
        text = self._backend.encode("a", add_special_tokens=False).ids
        return tuple(whole[: whole.index(text[0])]) if text and text[0] in whole else ()

    def save(self, folder: Path) -> None:
        """See `Tokenizer.save`; the files are those that were read, byte for byte."""
        for name, content in self._files.items():
            atomic_write_bytes(folder / name, content)


def _build_backend(
    content: bytes, config: Mapping[str, Any], where: str
) -> tuple[tokenizers.Tokenizer, dict[str, bool]]:
    """The tokenizer with every added token kept out of text, and for each added token its own special
    flag."""
    description = json_object(content, where)
    special_flags: dict[str, bool] = {}
    try:
        added = description.setdefault("added_tokens", [])
        known = {token["content"] for token in added}
        for token_id, token in sorted(config.get("added_tokens_decoder", {}).items(), key=lambda item: int(item[0])):
            if token["content"] not in known:  # tokens that only the config declares, as transformers reads them
                added.append({"id": int(token_id), **token})
        for token in added:
            special_flags[token["content"]] = bool(token["special"])
            token["special"] = True
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"{where}: its list of added tokens cannot be read ({error!r}); copy the file again") from error
    try:
        backend = tokenizers.Tokenizer.from_str(json.dumps(description, ensure_ascii=False))
    except Exception as error:
        if type(error) is not Exception:  # the library raises the bare class for a description it cannot read
            raise
        raise DataError(f"{where}: not a tokenizer description ({error}); the file is damaged") from error
    backend.encode_special_tokens = True
    backend.no_padding()
    backend.no_truncation()
    return backend, special_flags


def _token_text(value: object) -> str | None:
    """A token of tokenizer_config.json: a string, or an object with the string under "content"."""
    if isinstance(value, dict):
        value = value.get("content")
    return value if isinstance(value, str) else None


def _chat_template(files: Mapping[str, bytes], config: Mapping[str, Any], where: str) -> str | None:
    """The template of the jinja file, else that of the config."""
    if TEMPLATE_FILE not in files:
        return template_of_config(config, f"{where}/{CONFIG_FILE}")
    try:
        return files[TEMPLATE_FILE].decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{where}/{TEMPLATE_FILE}: not UTF-8 at byte {error.start}; save the file as UTF-8") from error
