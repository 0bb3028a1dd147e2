"""Tokenizer and tokens of a corpus."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from megatron_redone.common.errors import DataError
from megatron_redone.common.jsonl import read_jsonl
from megatron_redone.data.indexed_corpus import write_corpus
from megatron_redone.data.tokenizer import load_tokenizer, train_sentencepiece
from megatron_redone.recipes import config as kinds
from megatron_redone.recipes.execution import Execution

CORPUS = "corpus"


def run_tokenizer(execution: Execution) -> None:
    """A SentencePiece model of the corpus."""
    config = execution.config(kinds.TokenizerStage)
    tokenizer = train_sentencepiece(
        _texts(execution.input_path("corpus")), execution.work, config.vocab_size, execution.seed
    )
    execution.counts["vocab_size"] = tokenizer.vocab_size


def run_tokenize(execution: Execution) -> None:
    """The corpus as token ids."""
    tokenizer = load_tokenizer(execution.input_path("tokenizer"))
    counts = write_corpus(
        execution.work / CORPUS, (tokenizer.encode(text) for text in _texts(execution.input_path("corpus")))
    )
    execution.counts.update(documents=counts.num_documents, tokens=counts.num_tokens)


def _texts(folder: Path) -> Iterable[str]:
    path = folder / "corpus.jsonl"
    for number, value in read_jsonl(path):
        if not isinstance(value.get("text"), str):
            raise DataError(f"{path}:{number}: no text under the key `text`; each line is {{'text': ...}}")
        yield value["text"]
