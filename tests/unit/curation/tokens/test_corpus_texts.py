"""A tokenizer is trained on a file or a folder, plain or gzipped, with the rules of tokenizing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from megatron_redone.common.errors import DataError
from megatron_redone.curation.tokens.config import TextKeysConfig
from megatron_redone.curation.tokens.corpus_texts import CorpusTexts

Write = Callable[..., Path]


def test_texts_come_in_order_and_refusals_are_counted(tmp_path: Path, write: Write) -> None:
    write("b.jsonl.gz", ['{"body": "three"}', '{"body": "four"}'])
    path = write("a.jsonl", ['{"body": "one"}', "{", '{"body": "two"}'])
    texts = CorpusTexts(tmp_path / "corpus", TextKeysConfig(text_key="body"), 0.3)
    assert list(texts) == ["one", "two", "three", "four"]
    assert texts.num_documents == 4 and texts.refused[0].startswith(f"{path}:2: not JSON")
    assert list(CorpusTexts(path, TextKeysConfig(text_key="body"), 0.4)) == ["one", "two"]
    with pytest.raises(DataError, match=r"(?s)1 of 5 rows refused, but at most 10% may be.*a.jsonl:2"):
        list(CorpusTexts(tmp_path / "corpus", TextKeysConfig(text_key="body"), 0.1))


def test_empty_and_cut_files_are_told(tmp_path: Path, write: Write) -> None:
    write("a.jsonl", [])
    path = write("b.jsonl.gz", ['{"text": "three"}'] * 50)
    texts = CorpusTexts(tmp_path / "corpus", TextKeysConfig(), 1.0)
    assert len(list(texts)) == 50 and "a.jsonl: an empty file" in texts.refused[0]
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(DataError, match=r"b.jsonl.gz:51: cannot be read on"):
        list(texts)
