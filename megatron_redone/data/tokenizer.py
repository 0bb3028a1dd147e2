"""Tokenizers: one protocol, two implementations, loading by folder and training. Imports no torch.

Text and control never mix. `encode` treats every text as text: a user who writes `<|im_end|>` gets the tokens of
those characters. Only `chat_template.py` (and code that asks `special_id`) places the ids of special tokens.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import sentencepiece
import tokenizers

from megatron_redone.common.errors import DataError, InputError
from megatron_redone.common.files import atomic_write_bytes
from megatron_redone.common.seeding import rng
from megatron_redone.data.conversation import THINK_CLOSE, THINK_OPEN, check_unicode

CONFIG_FILE = "tokenizer_config.json"
SENTENCEPIECE_FILE = "tokenizer.model"
HUGGINGFACE_FILE = "tokenizer.json"
TEMPLATE_FILE = "chat_template.jinja"

END_OF_TEXT = "<|endoftext|>"
PAD = "<|pad|>"
SYMBOLS = ("<|im_start|>", "<|im_end|>", THINK_OPEN, THINK_CLOSE)

MAX_LINES = 2_000_000
"""Lines of text that `train_sentencepiece` looks at: a uniform sample of that size of a larger corpus."""

SPACE_MARK = "\u2581"  # SentencePiece writes a space as this character, so the character itself needs another way


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

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ids. Control tokens and ids outside the vocabulary are left out.

        Tokens that are special but part of an answer (`<think>`, `</think>`) are spelled out.
        """

    def special_id(self, token: str) -> int | None:
        """The id of a special token, None if the tokenizer has no such token."""

    def save(self, folder: Path) -> None:
        """Writes files from which `load_tokenizer` makes an equal tokenizer; other files there stay."""


class SentencePieceTokenizer:
    """A SentencePiece model trained by `train_sentencepiece`; `decode(encode(text)) == text` for every text.

    Args:
        model: the serialised model. Its control symbols are the special tokens.
        chat_template: a Jinja template, None for the built-in ChatML.
        where: the file for error messages.

    Raises:
        DataError: no SentencePiece model, or one without an end symbol or byte pieces.
    """

    def __init__(self, model: bytes, chat_template: str | None = None, where: str = SENTENCEPIECE_FILE) -> None:
        try:
            self._processor = sentencepiece.SentencePieceProcessor(model_proto=model)
        except RuntimeError as error:
            raise DataError(f"{where}: not a SentencePiece model; the file is damaged, copy it again") from error
        self._model = model
        self.chat_template = chat_template
        self.vocab_size = self._processor.get_piece_size()
        self.eos_id = self._processor.eos_id()
        self._space_mark_ids = [self._byte_id(byte, where) for byte in SPACE_MARK.encode()]
        if self.eos_id < 0:
            raise DataError(f"{where}: the model has no end symbol; train the tokenizer with `train_sentencepiece`")
        self.pad_id = self._processor.pad_id() if self._processor.pad_id() >= 0 else self.eos_id
        controls = [i for i in range(self.vocab_size) if self._processor.is_control(i)]
        self.special_tokens: Mapping[str, int] = {self._processor.id_to_piece(i): i for i in controls}
        self.template_variables: Mapping[str, str] = {
            "eos_token": self._processor.id_to_piece(self.eos_id),
            "pad_token": self._processor.id_to_piece(self.pad_id),
        }
        shown = (THINK_OPEN, THINK_CLOSE)
        self._spelled = {i: token for token, i in self.special_tokens.items() if token in shown}
        self._hidden = {*controls, self._processor.unk_id()} - self._spelled.keys()
        self.fingerprint = hashlib.sha256(model).hexdigest()

    def _byte_id(self, byte: int, where: str) -> int:
        piece = f"<0x{byte:02X}>"
        index = self._processor.piece_to_id(piece)
        if self._processor.id_to_piece(index) != piece:
            raise DataError(f"{where}: the model has no piece {piece}; train it with byte fallback")
        return int(index)

    def encode(self, text: str) -> list[int]:
        """See `Tokenizer.encode`."""
        check_unicode(text, "text")
        ids: list[int] = []
        for index, part in enumerate(text.split(SPACE_MARK)):
            if index:
                ids += self._space_mark_ids
            ids += self._processor.encode(part)
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        """See `Tokenizer.decode`."""
        texts: list[str] = []
        run: list[int] = []
        for token_id in ids:
            if token_id in self._spelled:
                texts += [self._processor.decode(run), self._spelled[token_id]]
                run = []
            elif token_id not in self._hidden and 0 <= token_id < self.vocab_size:
                run.append(int(token_id))
        return "".join([*texts, self._processor.decode(run)])

    def special_id(self, token: str) -> int | None:
        """See `Tokenizer.special_id`."""
        return self.special_tokens.get(token)

    def save(self, folder: Path) -> None:
        """See `Tokenizer.save`."""
        config = {"kind": "sentencepiece"}
        if self.chat_template is not None:
            config["chat_template"] = self.chat_template
        atomic_write_bytes(folder / SENTENCEPIECE_FILE, self._model)
        atomic_write_bytes(folder / CONFIG_FILE, (json.dumps(config, ensure_ascii=False, indent=2) + "\n").encode())


class HuggingFaceTokenizer:
    """A `tokenizer.json` run by the `tokenizers` library.

    Gives the ids that transformers' tokenizer gives with `add_special_tokens=False` for text that spells no added
    token. Text is normalised as the file says (Qwen: NFC), so `decode(encode(text))` is the normalised text.

    Args:
        files: name -> content of tokenizer.json, tokenizer_config.json and, where there is one, chat_template.jinja.
        where: the folder for error messages.

    Raises:
        DataError: a damaged file, no `eos_token`, or a tokenizer that cannot keep special tokens out of text.
    """

    def __init__(self, files: Mapping[str, bytes], where: str = "tokenizer") -> None:
        self._files = dict(files)
        config = _json_object(files.get(CONFIG_FILE, b"{}"), f"{where}/{CONFIG_FILE}")
        self._backend, special_flags = _build_backend(files[HUGGINGFACE_FILE], config, f"{where}/{HUGGINGFACE_FILE}")
        vocabulary = self._backend.get_vocab(with_added_tokens=True)
        self.vocab_size = max(vocabulary.values()) + 1
        self.special_tokens: Mapping[str, int] = {token: vocabulary[token] for token in special_flags}
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
        flagged = {vocabulary[token] for token, special in special_flags.items() if special}
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
                    f"{where}: a text that spells {token!r} becomes that special token, so users could end turns; "
                    "use a tokenizer whose model cannot produce its special tokens from text (byte-level BPE)"
                )

    def encode(self, text: str) -> list[int]:
        """See `Tokenizer.encode`."""
        check_unicode(text, "text")
        return self._backend.encode(text, add_special_tokens=False).ids

    def decode(self, ids: Iterable[int]) -> str:
        """See `Tokenizer.decode`."""
        shown = [int(i) for i in ids if i not in self._hidden and 0 <= i < self.vocab_size]
        return self._backend.decode(shown, skip_special_tokens=False)

    def special_id(self, token: str) -> int | None:
        """See `Tokenizer.special_id`."""
        return self.special_tokens.get(token)

    def save(self, folder: Path) -> None:
        """See `Tokenizer.save`; the files are those that were read, byte for byte."""
        for name, content in self._files.items():
            atomic_write_bytes(folder / name, content)


def load_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer of a folder: ours (tokenizer.model) or a Hugging Face one (tokenizer.json).

    Raises:
        InputError: the folder holds none; DataError if its files are damaged.
    """
    config_path = folder / CONFIG_FILE
    config = _json_object(config_path.read_bytes(), str(config_path)) if config_path.is_file() else {}
    if config.get("kind") == "sentencepiece" and (folder / SENTENCEPIECE_FILE).is_file():
        model_path = folder / SENTENCEPIECE_FILE
        return SentencePieceTokenizer(model_path.read_bytes(), _chat_template({}, config, str(folder)), str(model_path))
    if (folder / HUGGINGFACE_FILE).is_file():
        return HuggingFaceTokenizer.load(folder)
    found = "no such folder" if not folder.is_dir() else "no tokenizer there"
    raise InputError(
        f"{folder}: {found}; a model folder needs {HUGGINGFACE_FILE} with {CONFIG_FILE}, or {SENTENCEPIECE_FILE} with "
        f'a {CONFIG_FILE} of kind "sentencepiece"; copy the files beside the weights or give another folder'
    )


def train_sentencepiece(texts: Iterable[str], out: Path, vocab_size: int, seed: int) -> SentencePieceTokenizer:
    """Trains a byte-pair SentencePiece model on the lines of `texts` and saves it in `out`.

    Identity normalisation, no dummy prefix, byte fallback, every character of the corpus covered, each digit and each
    line end its own piece, one thread: equal input gives equal bytes. The special tokens are `<|endoftext|>` (end),
    `<|pad|>`, `<|im_start|>`, `<|im_end|>`, `<think>`, `</think>`.

    Args:
        texts: the corpus; of more than MAX_LINES lines a uniform sample is used.
        out: folder for tokenizer.model and tokenizer_config.json.
        vocab_size: ids in all, special tokens and 256 bytes included.
        seed: of the sample.

    Raises:
        InputError: the corpus is empty, or the size does not suit it (the message says which sizes do).
    """
    lines = _sample_lines(texts, seed)
    if not lines:
        raise InputError("the tokenizer's corpus has no text; give it documents that are not blank")
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(lines),
            model_writer=model,
            model_type="bpe",
            vocab_size=vocab_size,
            character_coverage=1.0,
            byte_fallback=True,
            split_digits=True,
            normalization_rule_name="identity",
            remove_extra_whitespaces=False,
            add_dummy_prefix=False,
            unk_id=0,
            bos_id=-1,
            eos_id=1,
            eos_piece=END_OF_TEXT,
            pad_id=2,
            pad_piece=PAD,
            control_symbols=list(SYMBOLS),
            user_defined_symbols=["\n"],
            max_sentence_length=1 << 30,
            num_threads=1,
            minloglevel=2,
        )
    except RuntimeError as error:
        raise _training_error(str(error), vocab_size) from error
    tokenizer = SentencePieceTokenizer(model.getvalue())
    tokenizer.save(out)
    return tokenizer


def _sample_lines(texts: Iterable[str], seed: int) -> list[str]:
    """All non-blank lines, or a uniform sample of MAX_LINES of them (reservoir sampling)."""
    random = rng(seed, "tokenizer corpus")
    kept: list[str] = []
    for count, line in enumerate(_lines(texts)):
        if count < MAX_LINES:
            kept.append(line)
        elif (place := random.randrange(count + 1)) < MAX_LINES:
            kept[place] = line
    return kept


def _lines(texts: Iterable[str]) -> Iterator[str]:
    for index, text in enumerate(texts):
        check_unicode(text, f"text {index} of the tokenizer's corpus")
        yield from (line for line in text.split("\n") if line.strip())


def _training_error(message: str, vocab_size: int) -> InputError | RuntimeError:
    if most := re.search(r"too high .*?<= (\d+)", message):
        return InputError(
            f"vocab_size={vocab_size} is more than the corpus gives pieces for, which is {most[1]}; "
            "lower vocab_size or add text"
        )
    if least := re.search(r"required_chars\. \d+ vs (\d+)", message):
        return InputError(
            f"vocab_size={vocab_size} is too small: the special tokens, 256 bytes and every character of the corpus "
            f"need {least[1]}; raise vocab_size"
        )
    if vocab_size < 256 + len(SYMBOLS):
        return InputError(f"vocab_size={vocab_size} is too small for the special tokens and 256 bytes; raise it")
    return RuntimeError(message)


def _json_object(content: bytes, where: str) -> dict[str, Any]:
    try:
        value = json.loads(content)
    except ValueError as error:  # bad JSON or bad UTF-8
        raise DataError(f"{where}: not JSON ({error}); the file is damaged, copy it again") from error
    if not isinstance(value, dict):
        raise DataError(f"{where}: a {type(value).__name__}, expected a JSON object")
    return value


def _build_backend(
    content: bytes, config: Mapping[str, Any], where: str
) -> tuple[tokenizers.Tokenizer, dict[str, bool]]:
    """The tokenizer with every added token kept out of text, and for each added token its own special flag."""
    description = _json_object(content, where)
    added = description.setdefault("added_tokens", [])
    known = {token["content"] for token in added}
    for token_id, token in sorted(config.get("added_tokens_decoder", {}).items(), key=lambda item: int(item[0])):
        if token["content"] not in known:  # tokens that only the config declares, as transformers reads them
            added.append({"id": int(token_id), **token})
    special_flags = {token["content"]: bool(token["special"]) for token in added}
    for token in added:
        token["special"] = True
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
    """The template of the jinja file, else of the config: one text, or a list of named ones with a "default"."""
    if TEMPLATE_FILE in files:
        return files[TEMPLATE_FILE].decode("utf-8")
    template = config.get("chat_template")
    if isinstance(template, list):
        named = {item.get("name"): item.get("template") for item in template if isinstance(item, dict)}
        template = named.get("default")
        if template is None:
            raise DataError(f'{where}/{CONFIG_FILE}: chat_template lists {sorted(named)} and no "default"; keep one')
    if template is not None and not isinstance(template, str):
        raise DataError(f"{where}/{CONFIG_FILE}: chat_template is a {type(template).__name__}, expected a string")
    return template
