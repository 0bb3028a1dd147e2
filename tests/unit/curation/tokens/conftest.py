"""A byte-level tokenizer without merges, and folders of documents."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken, Tokenizer as Backend, models, pre_tokenizers

END = "<|end|>"


@pytest.fixture(scope="session")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Backend(models.BPE(vocab={letter: number for number, letter in enumerate(alphabet)}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.add_special_tokens([AddedToken(END, special=True)])
    backend.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": END}), encoding="utf-8")
    return folder


def lines_of(numbers: Iterable[int]) -> list[str]:
    """Documents that differ in length and script."""
    return [
        json.dumps(
            {"id": f"d{n}", "text": f"note {n} " + "看海 " * (n % 5) + f"{END} " * (n % 3 == 0)},
            ensure_ascii=n % 2 == 0,
        )
        for n in numbers
    ]


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Writes lines (texts or bytes) to a file of the folder `corpus`, gzipped if its name says so."""

    def write_lines(name: str, lines: Iterable[str | bytes], **_: Any) -> Path:
        path = tmp_path / "corpus" / name
        path.parent.mkdir(exist_ok=True)
        content = b"".join((line.encode() if isinstance(line, str) else line) + b"\n" for line in lines)
        path.write_bytes(gzip.compress(content, mtime=0) if name.endswith(".gz") else content)
        return path

    return write_lines
