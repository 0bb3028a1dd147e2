from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from megatron_redone.common.errors import DataError
from megatron_redone.data.document import Document
from megatron_redone.data.microbatches import assign_documents
from megatron_redone.data.packing import best_fit_bins, pack_documents

LENGTHS = st.lists(st.integers(1, 20), min_size=1, max_size=60)


def documents_of(lengths: list[int]) -> list[Document]:
    return [Document(list(range(n)), [1] * n, f"d{index}", {"a": [0.5] * n}) for index, n in enumerate(lengths)]


@given(lengths=LENGTHS, seed=st.integers(0, 5), shuffle=st.randoms(use_true_random=False))
def test_packing_places_every_document_once_in_any_order(lengths: list[int], seed: int, shuffle: object) -> None:
    documents = documents_of(lengths)
    bins, report = pack_documents(documents, max_tokens=20, seed=seed)
    assert sorted(document.sample_id for members in bins for document in members) == sorted(
        document.sample_id for document in documents
    )
    assert all(0 < sum(map(len, members)) <= 20 for members in bins)
    assert report.num_bins == len(bins)
    assert report.efficiency == pytest.approx(sum(lengths) / (20 * len(bins)))
    assert report.num_packed == len(lengths)
    shuffle.shuffle(documents)  # type: ignore[attr-defined]
    again, _ = pack_documents(documents, max_tokens=20, seed=seed)
    assert again == bins


@given(lengths=LENGTHS)
def test_bins_equal_those_of_a_search_over_all_bins(lengths: list[int]) -> None:
    ordered = sorted(lengths, reverse=True)
    used: list[int] = []
    for length in ordered:
        fitting = [index for index, tokens in enumerate(used) if tokens + length <= 20]
        if fitting:
            used[max(fitting, key=lambda index: used[index])] += length
        else:
            used.append(length)
    bins = best_fit_bins(ordered, 20)
    assert sorted(sum(ordered[index] for index in members) for members in bins) == sorted(used)


def test_best_fit_leaves_the_least_room() -> None:
    assert best_fit_bins([6, 5, 4, 3, 2], 10) == [[0, 2], [1, 3, 4]]
    with pytest.raises(ValueError, match="a length of 11 tokens does not fit a bin of 10"):
        best_fit_bins([11], 10)


def test_seeds_change_the_order_of_bins() -> None:
    documents = documents_of([7] * 40)
    orders = {tuple(members[0].sample_id for members in pack_documents(documents, 8, seed)[0]) for seed in range(3)}
    assert len(orders) == 3


def test_too_long_documents_are_dropped_or_cut_and_counted() -> None:
    documents = documents_of([5, 30, 12])
    bins, report = pack_documents(documents, max_tokens=12, seed=0)
    assert {document.sample_id for members in bins for document in members} == {"d0", "d2"}
    assert (report.dropped_too_long, report.truncated, report.num_packed) == (1, 0, 2)
    bins, report = pack_documents(documents, max_tokens=12, seed=0, too_long="truncate")
    cut = next(document for members in bins for document in members if document.sample_id == "d1")
    assert (len(cut), list(cut.token_ids), len(cut.signals["a"])) == (12, list(range(12)), 12)
    assert (report.dropped_too_long, report.truncated, report.num_packed) == (0, 1, 3)
    with pytest.raises(DataError, match="nothing to pack: 1 documents, 1 of them over max_tokens=3"):
        pack_documents(documents[:1], max_tokens=3, seed=0)


def test_documents_check_their_parts() -> None:
    with pytest.raises(ValueError, match="document 'x' has no tokens"):
        Document([], [], "x")
    with pytest.raises(ValueError, match="loss_mask has 1 entries for 2 tokens"):
        Document([1, 2], [1], "x")
    with pytest.raises(ValueError, match="advantages has 3 entries for 2 tokens"):
        Document([1, 2], [1, 1], "x", {"advantages": [1.0, 2.0, 3.0]})


@given(lengths=st.lists(st.integers(1, 20), max_size=60), num_replicas=st.integers(1, 5))
def test_assignment_uses_every_document_once_with_equal_steps(lengths: list[int], num_replicas: int) -> None:
    result = assign_documents(lengths, num_replicas, 20)
    assert len(result) == num_replicas
    assert len({len(microbatches) for microbatches in result}) == 1
    assert len(result[0]) >= 1
    members = [index for replica in result for microbatch in replica for index in microbatch]
    assert sorted(members) == list(range(len(lengths)))
    assert all(sum(lengths[i] for i in microbatch) <= 20 for replica in result for microbatch in replica)
    loads = [sum(lengths[i] for microbatch in replica for i in microbatch) for replica in result]
    assert max(loads) - min(loads) <= max(lengths, default=0)
    assert assign_documents(lengths, num_replicas, 20) == result


def test_assignment_balances_microbatches() -> None:
    assert assign_documents([4, 4, 4, 4], 2, 8) == [[[0, 2]], [[1, 3]]]
    assert assign_documents([9, 3, 3, 3], 1, 12) == [[[0], [1, 2, 3]]]
    assert assign_documents([5], 2, 8) == [[[0]], [[]]]


def test_assignment_errors() -> None:
    with pytest.raises(DataError, match="document 1 has 9 tokens, more than max_tokens_per_microbatch=8"):
        assign_documents([1, 9], 1, 8)
    with pytest.raises(ValueError, match="num_replicas=0"):
        assign_documents([1], 0, 8)
