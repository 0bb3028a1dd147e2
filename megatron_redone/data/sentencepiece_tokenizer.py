"""The tokenizer a recipe trains for itself: SentencePiece, with special tokens that no text can spell."""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import sentencepiece

from megatron_redone.common.errors import DataError, InputError
from megatron_redone.common.files import atomic_write_bytes
from megatron_redone.common.seeding import rng
from megatron_redone.data.conversation import THINK_CLOSE, THINK_OPEN, check_unicode
from megatron_redone.data.tokenizer_files import (
    CONFIG_FILE,
    SENTENCEPIECE_FILE,
    read_config,
    template_of_config,
)

END_OF_TEXT = "<|endoftext|>"
PAD = "<|pad|>"
SYMBOLS = ("<|im_start|>", "<|im_end|>", THINK_OPEN, THINK_CLOSE)

MAX_LINES = 2_000_000
"""Lines of text that `train_sentencepiece` looks at by default: a uniform sample of a larger corpus."""

SPACE_MARK = "\u2581"  # SentencePiece writes a space as this character, so the character itself goes as bytes


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

    @classmethod
    def load(cls, folder: Path) -> SentencePieceTokenizer:
        """Reads tokenizer.model and the template of tokenizer_config.json.

        Raises:
            DataError: a damaged file.
        """
        template = template_of_config(read_config(folder), f"{folder}/{CONFIG_FILE}")
        return cls((folder / SENTENCEPIECE_FILE).read_bytes(), template, f"{folder}/{SENTENCEPIECE_FILE}")

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

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """See `Tokenizer.encode_batch`."""
        for number, text in enumerate(texts):
            check_unicode(text, f"text {number} of the batch")
        plain = [text for text in texts if SPACE_MARK not in text]
        found = iter(self._processor.encode(plain, num_threads=1)) if plain else iter(())
        return [self.encode(text) if SPACE_MARK in text else next(found) for text in texts]

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


def train_sentencepiece(
    texts: Iterable[str], out: Path, vocab_size: int, seed: int, max_lines: int = MAX_LINES
) -> SentencePieceTokenizer:
    """Trains a byte-pair SentencePiece model on the lines of `texts` and saves it in `out`.

    Identity normalisation, no dummy prefix, byte fallback, every character of the corpus covered, each digit
    and each line end its own piece, one thread: equal input gives equal bytes. The special tokens are
    `<|endoftext|>` (end), `<|pad|>`, `<|im_start|>`, `<|im_end|>`, `<think>`, `</think>`.

    Args:
        texts: the corpus, read once.
        out: folder for tokenizer.model and tokenizer_config.json.
        vocab_size: ids in all, special tokens and 256 bytes included.
        seed: of the sample.
        max_lines: of a corpus with more lines a uniform sample of this size is used, which is held in memory.

    Raises:
        InputError: the corpus is empty, or the size does not suit it (the message says which sizes do).
    """
    lines = _sample_lines(texts, seed, max_lines)
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


def _sample_lines(texts: Iterable[str], seed: int, max_lines: int) -> list[str]:
    """All non-blank lines, or a uniform sample of `max_lines` of them (reservoir sampling)."""
    random = rng(seed, "tokenizer corpus")
    kept: list[str] = []
    for count, line in enumerate(_lines(texts)):
        if count < max_lines:
            kept.append(line)
        elif (place := random.randrange(count + 1)) < max_lines:
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
            f"vocab_size={vocab_size} is too small: the special tokens, 256 bytes and every character of the "
            f"corpus need {least[1]}; raise vocab_size"
        )
    if vocab_size < 256 + len(SYMBOLS):
        return InputError(f"vocab_size={vocab_size} is too small for the special tokens and 256 bytes; raise it")
    return RuntimeError(message)
