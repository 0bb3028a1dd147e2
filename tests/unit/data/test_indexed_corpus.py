from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st

from megatron_redone.common.errors import DataError
from megatron_redone.data.document import Document
from megatron_redone.data.indexed_corpus import CorpusCounts, PretrainSamples, write_corpus

EOS = 1
CORPUS = [[10 * n + k for k in range(1 + n % 5)] for n in range(1, 30)]


def tokens_of(sample: list[Document]) -> list[int]:
    return [token for document in sample for token in document.token_ids]


@pytest.mark.parametrize("vocab_size", [None, 1000, 100_000])
def test_megatron_reads_what_was_written(tmp_path: Path, vocab_size: int | None) -> None:
    from megatron.core.datasets.indexed_dataset import IndexedDataset

    counts = write_corpus(tmp_path / "a" / "corpus.v1", [*CORPUS, []], vocab_size)
    assert counts == CorpusCounts(len(CORPUS), sum(map(len, CORPUS)), num_empty=1)
    dataset = IndexedDataset(str(tmp_path / "a" / "corpus.v1"))
    assert [dataset[index].tolist() for index in range(len(dataset))] == CORPUS
    assert dataset.index.dtype().itemsize == (2 if vocab_size == 1000 else 4)
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["corpus.v1.bin", "corpus.v1.idx"]


@settings(max_examples=40)
@given(
    corpus=st.lists(st.lists(st.integers(2, 99), min_size=1, max_size=12), min_size=1, max_size=12),
    length=st.integers(2, 17),
    seed=st.integers(0, 3),
    stored=st.booleans(),
)
def test_every_epoch_holds_every_token_once(
    tmp_path_factory: pytest.TempPathFactory, corpus: list[list[int]], length: int, seed: int, stored: bool
) -> None:
    prefix = tmp_path_factory.mktemp("corpus") / "c"
    whole = [[*document, EOS] for document in corpus]
    write_corpus(prefix, whole if stored else corpus)
    samples = PretrainSamples(prefix, length, EOS, seed, eos_stored=stored)
    per_epoch = sum(map(len, whole))
    assert samples.tokens_per_epoch == per_epoch
    stream: list[int] = []
    for index in range(samples.samples_in(3)):
        sample = samples[index]
        assert sum(map(len, sample)) == length
        for number, document in enumerate(sample):
            assert EOS not in document.token_ids[:-1]  # no document crosses the border of another
            assert document.token_ids[-1] == EOS or number == len(sample) - 1
            assert all(document.loss_mask)
        stream += tokens_of(sample)
    assert len(stream) - length < 3 * per_epoch <= len(stream)
    for epoch in range(3):
        part = stream[epoch * per_epoch : (epoch + 1) * per_epoch]
        ends = [0, *(i + 1 for i, token in enumerate(part) if token == EOS)]
        assert sorted(part[a:b] for a, b in pairwise(ends)) == sorted(whole)


def test_access_is_random_and_a_function_of_seed_and_epoch(tmp_path: Path) -> None:
    write_corpus(tmp_path / "c", CORPUS)
    samples = PretrainSamples(tmp_path / "c", 16, EOS, seed=3)
    count = samples.samples_in(4)
    forward = [samples[index] for index in range(count)]
    other = PretrainSamples(tmp_path / "c", 16, EOS, seed=3)
    assert [other[index] for index in reversed(range(count))] == forward[::-1]
    assert [samples[index] for index in range(count)] == forward
    assert [PretrainSamples(tmp_path / "c", 16, EOS, seed=4)[index] for index in range(count)] != forward
    epoch = samples.tokens_per_epoch
    long = PretrainSamples(tmp_path / "c", epoch, EOS, seed=3)
    assert tokens_of(long[0]) != tokens_of(long[1])
    assert tokens_of(long[0]) + tokens_of(long[1]) == [t for s in forward for t in tokens_of(s)][: 2 * epoch]
    assert len({document.sample_id for sample in forward for document in sample}) == sum(map(len, forward))
    with pytest.raises(IndexError):
        samples[-1]


def test_bad_token_ids_leave_nothing(tmp_path: Path) -> None:
    for corpus, vocab_size in [([[5], [5, 70]], 70), ([[5], [-1]], None)]:
        with pytest.raises(DataError, match="document 1 has token ids from"):
            write_corpus(tmp_path / "c", corpus, vocab_size)
    with pytest.raises(DataError, match=r"no tokens to write \(2 empty documents\)"):
        write_corpus(tmp_path / "c", [[], []])
    assert list(tmp_path.iterdir()) == []


def test_failed_write_keeps_the_old_corpus(tmp_path: Path) -> None:
    write_corpus(tmp_path / "c", CORPUS)
    with pytest.raises(DataError):
        write_corpus(tmp_path / "c", [[5], [-1]])
    assert PretrainSamples(tmp_path / "c", 8, EOS, seed=0).tokens_per_epoch == sum(map(len, CORPUS)) + len(CORPUS)
    assert len(list(tmp_path.iterdir())) == 2


def test_damaged_files_are_named(tmp_path: Path) -> None:
    prefix = tmp_path / "c"

    def refused(pattern: str, **options: bool) -> None:
        with pytest.raises(DataError, match=pattern):
            PretrainSamples(prefix, 8, EOS, seed=0, **options)

    refused("c.bin: no such file")
    write_corpus(prefix, CORPUS)
    refused(
        "eos_stored is True, but the first document lacks the end token 1; set eos_stored to False",
        eos_stored=True,
    )
    index, data = (tmp_path / "c.idx").read_bytes(), (tmp_path / "c.bin").read_bytes()
    for content, pattern in [
        (b"", "no index of a Megatron dataset"),
        (b"X" + index[1:], "no index of a Megatron dataset"),
        (index[:9] + b"\x02" + index[10:], "version 2, type code 4 cannot be read"),
        (index[:17] + b"\x63" + index[18:], "version 1, type code 99 cannot be read"),
        (index[:-8], "c.idx: .* bytes, the index speaks of"),
    ]:
        (tmp_path / "c.idx").write_bytes(content)
        refused(pattern)
    (tmp_path / "c.idx").write_bytes(index)
    (tmp_path / "c.bin").write_bytes(data[:-1])
    refused("c.bin: .* bytes, the index speaks of")
    (tmp_path / "c.bin").write_bytes(data)
    write_corpus(tmp_path / "d", [[5, EOS]])
    with pytest.raises(DataError, match="eos_stored is False, but the first document ends with the end token 1"):
        PretrainSamples(tmp_path / "d", 8, EOS, seed=0)
    with pytest.raises(DataError, match="sequence_length=1"):
        PretrainSamples(prefix, 1, EOS, seed=0)


def test_documents_stored_in_parts_are_refused(tmp_path: Path) -> None:
    import numpy as np
    import torch
    from megatron.core.datasets.indexed_dataset import IndexedDatasetBuilder

    builder = IndexedDatasetBuilder(str(tmp_path / "c.bin"), dtype=np.int32)
    builder.add_item(torch.tensor([5, 6]))
    builder.add_item(torch.tensor([7]))
    builder.end_document()
    builder.finalize(str(tmp_path / "c.idx"))
    with pytest.raises(DataError, match="some documents are stored in parts"):
        PretrainSamples(tmp_path / "c", 2, EOS, seed=0)
