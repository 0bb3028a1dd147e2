"""The writer makes the files of Megatron's own builder, and none that is not whole."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch
from hypothesis import given, strategies as st
from megatron.core.datasets.indexed_dataset import DType, IndexedDatasetBuilder

from megatron_redone.common.errors import DataError
from megatron_redone.data import indexed_writer as module
from megatron_redone.data.indexed_writer import CorpusCounts, IndexedWriter, indexed_writer

documents_of = st.lists(st.lists(st.integers(0, 999), max_size=9), min_size=1, max_size=25).filter(any)


@given(documents=documents_of, batch=st.integers(1, 9), vocab_size=st.sampled_from([None, 1000, 65_499, 65_500]))
def test_the_files_are_those_of_megatrons_builder(
    tmp_path_factory: pytest.TempPathFactory, documents: list[list[int]], batch: int, vocab_size: int | None
) -> None:
    folder = tmp_path_factory.mktemp("written")
    builder = IndexedDatasetBuilder(str(folder / "theirs.bin"), dtype=DType.optimal_dtype(vocab_size))
    for document in filter(None, documents):
        builder.add_item(torch.tensor(document))
        builder.end_document()
    builder.finalize(str(folder / "theirs.idx"))
    with indexed_writer(folder / "ours", vocab_size) as writer:
        for first in range(0, len(documents), batch):
            writer.add(documents[first : first + batch])
        counts = writer.finish()
    assert counts == CorpusCounts(sum(map(bool, documents)), sum(map(len, documents)), documents.count([]))
    for suffix in (".bin", ".idx"):
        content = (folder / f"ours{suffix}").read_bytes()
        assert content == (folder / f"theirs{suffix}").read_bytes()
        assert writer.sha256[suffix] == hashlib.sha256(content).hexdigest()
    assert len(list(folder.iterdir())) == 4


def test_pointers_are_the_same_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    documents = [[n] * (1 + n % 3) for n in range(11)]
    contents = []
    for pieces in (1 << 20, 4):
        monkeypatch.setattr(module, "_POINTERS_AT_ONCE", pieces)
        with indexed_writer(tmp_path / "c") as writer:
            writer.add(documents)
            writer.finish()
        contents.append((tmp_path / "c.idx").read_bytes())
    assert contents[0] == contents[1]


def test_what_is_not_finished_leaves_the_old_files(tmp_path: Path) -> None:
    with indexed_writer(tmp_path / "c") as writer:
        writer.add([[1, 2]])
        writer.finish()
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with indexed_writer(tmp_path / "c") as writer:
        writer.add([[3]])
    with pytest.raises(DataError, match=r"document 2 has token ids from 4 to 70, outside 0..69"):  # noqa: SIM117
        with indexed_writer(tmp_path / "c", 70) as writer:
            writer.add([[3], [], [4, 70]])
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_writer_that_is_killed_leaves_no_name(tmp_path: Path) -> None:
    writer = IndexedWriter(tmp_path / "c")
    writer.add([[1]])
    writer._bin.flush()
    assert [path.name for path in tmp_path.iterdir()] == [".c.bin.tmp"]
    writer.close()
