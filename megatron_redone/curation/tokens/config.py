"""Settings of tokenizing a corpus and of training a tokenizer on one. Imports no torch."""

from __future__ import annotations

from pydantic import Field

from megatron_redone.config.base import StrictModel


class TextKeysConfig(StrictModel):
    """Where the text of a document stands, and how long a line may be."""

    text_key: str = "text"
    """Key of the text in each line."""
    id_key: str = "id"
    """Key of the document's id, a string or an integer; a document without one is known by its text."""
    max_document_mib: int = Field(64, ge=1)
    """A longer line (in MiB) is refused: it would have to be held in memory as a whole."""


class TokenizeConfig(TextKeysConfig):
    """A corpus as token ids."""

    end_token: bool = False
    """Store the end token behind each document (`--append-eod` of Megatron's tools); else pretraining adds it."""
    validation_share: float = Field(0.0, ge=0, lt=1)
    """Share of the documents that is kept apart for validation, by a hash of the id: the same ones in every run."""
    workers: int = Field(1, ge=1)
    """Processes; the result does not depend on it."""
    shard_mib: int = Field(64, ge=1)
    """MiB of text that make one output shard, which is also what a kill can cost; a gzip file is never divided."""


class TrainTokenizerConfig(TextKeysConfig):
    """A SentencePiece model of a corpus."""

    vocab_size: int = Field(ge=300)
    """Ids in all, special tokens and 256 bytes included."""
    max_sentences: int = Field(2_000_000, ge=1)
    """Of a corpus with more lines of text, a uniform sample of this size is learnt from; it is held in memory."""
