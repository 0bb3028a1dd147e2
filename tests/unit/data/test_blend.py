"""Shares hold at every step, no corpus skips or repeats a sample, and phases go on where the corpora are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st

from megatron_redone.common.errors import DataError
from megatron_redone.data.blend import BLOCK, Blend, BlendedSamples, BlendOrder, BlendPhase, exact_shares
from megatron_redone.data.blend_weights import read_weights
from megatron_redone.data.indexed_corpus import PretrainSamples, write_corpus

EOS = 1
weight_lists = st.lists(st.sampled_from([0.0, 0.0002, 0.01, 0.1, 0.25, 1 / 3, 1.0, 7.0, 100.0]), min_size=1, max_size=9)


def worst_deviation(order: Sequence[int], shares: list[int]) -> Fraction:
    counts, total, worst = [0] * len(shares), sum(shares), 0
    for number, corpus in enumerate(order, 1):
        counts[corpus] += 1
        worst = max(worst, *(abs(share * number - total * n) for share, n in zip(shares, counts, strict=True)))
    return Fraction(worst, total)


@settings(max_examples=60)
@given(weights=weight_lists.filter(any), length=st.integers(1, 700))
def test_the_count_of_each_corpus_is_less_than_one_sample_off_at_every_step(weights: list[float], length: int) -> None:
    order = BlendOrder(weights)
    found = [order[index] for index in range(length)]
    limit = 1 - Fraction(1, max(2, 2 * len(weights) - 2))
    assert worst_deviation([corpus for corpus, _ in found], exact_shares(weights)) <= limit < 1
    seen: Counter[int] = Counter()
    for number, (corpus, own) in enumerate(found):
        assert own == seen[corpus]
        seen[corpus] += 1
        if number % 50 == 0:
            assert order.counts(number + 1) == [seen[i] for i in range(len(weights))]


def test_the_corpus_that_lags_most_would_not_do() -> None:
    shares = [1, 1, 10, 1, 100, 100, 100, 1, 1]
    counts, order = [0] * len(shares), []
    for number in range(1, 301):
        lagging = max(range(len(shares)), key=lambda i: shares[i] * number - sum(shares) * counts[i])
        counts[lagging] += 1
        order.append(lagging)
    assert worst_deviation(order, shares) > 1
    ours = BlendOrder(shares)
    assert worst_deviation([ours[index][0] for index in range(300)], shares) < 1


def test_access_is_random_over_blocks_and_periods() -> None:
    for weights in ([3.0, 1.0], [0.123456789, 0.2, 0.7]):
        forward, length = BlendOrder(weights), 3 * BLOCK + 7
        inorder = [forward[index] for index in range(length)]
        asked = [length - 1, 0, 2 * BLOCK, BLOCK - 1, BLOCK, 5, 2 * BLOCK - 1]
        other = BlendOrder(weights)
        assert [other[index] for index in asked] == [inorder[index] for index in asked]
    far, share = 10**12, BlendOrder([2.0, 3.0])
    assert share.counts(far) == [far * 2 // 5, far * 3 // 5]
    assert share[far] == (share[0][0], far * [2, 3][share[0][0]] // 5)


def test_weights_are_what_is_written() -> None:
    assert exact_shares([0.3, 0.3, 0.4]) == [3, 3, 4]
    assert exact_shares([2, 4, 0]) == [1, 2, 0]
    for bad in ([], [0.0], [-0.1, 1.0]):
        with pytest.raises(DataError, match="none may be below 0"):
            exact_shares(bad)


def phases(*entries: tuple[int, dict[str, float]]) -> list[BlendPhase]:
    return [BlendPhase(start, weights) for start, weights in entries]


@settings(max_examples=40)
@given(
    first=st.lists(st.integers(0, 9), min_size=3, max_size=3).filter(any),
    second=st.lists(st.integers(0, 9), min_size=3, max_size=3).filter(any),
    change=st.integers(1, 150),
)
def test_after_a_change_every_corpus_goes_on_at_its_next_sample(
    first: list[int], second: list[int], change: int
) -> None:
    names = ["a", "b", "c"]
    before, after = dict(zip(names, first, strict=True)), dict(zip(names, second, strict=True))
    blend = Blend(names, phases((0, before), (change, after)))
    old = Blend(names, phases((0, before)))
    assert [blend[index] for index in range(change)] == [old[index] for index in range(change)]
    assert blend.past(change) == old.past(change)
    taken: dict[int, list[int]] = {0: [], 1: [], 2: []}
    for index in range(change + 200):
        corpus, own = blend[index]
        taken[corpus].append(own)
    assert all(own == list(range(len(own))) for own in taken.values())  # none lost, none repeated
    assert blend.counts(change + 200) == {name: len(taken[i]) for i, name in enumerate(names)}
    late = [blend[change + index][0] for index in range(200)]
    assert worst_deviation(late, exact_shares(second)) < 1


def test_neither_the_order_of_corpora_nor_one_without_weight_changes_the_past() -> None:
    weights = {"b": 2.0, "a": 1.0}
    one = Blend(["a", "b"], phases((0, weights)))
    other = Blend(["new", "b", "a"], phases((0, weights | {"new": 0.0}), (90, {"new": 1.0})))
    taken = [
        [(blend.names[corpus], own) for corpus, own in map(blend.__getitem__, range(90))] for blend in (one, other)
    ]
    assert taken[0] == taken[1] and one.past(90) == other.past(90)
    assert other[90] == (0, 0)


@pytest.mark.parametrize(
    ("entries", "problem"),
    [
        ([], "the first begins at 0"),
        ([(5, {"a": 1.0})], "the first begins at 0"),
        ([(0, {"a": 1.0}), (0, {"a": 1.0})], "each later one after"),
        ([(0, {"a": 1.0}), (9, {"z": 1.0})], r"weights name \['z'\], but the corpora are \['a'\]"),
    ],
)
def test_wrong_phases_are_refused(entries: list[tuple[int, dict[str, float]]], problem: str) -> None:
    with pytest.raises(DataError, match=problem):
        Blend(["a"], phases(*entries))


def test_a_small_corpus_comes_round_without_a_repeat_inside_an_epoch(tmp_path: Path) -> None:
    sizes = {"small": 7, "large": 90}
    for name, size in sizes.items():
        write_corpus(tmp_path / name, [[5] * 7 for _ in range(size)])  # with the end token 8 tokens: one sample
    corpora = [PretrainSamples(tmp_path / name, 8, EOS, seed=4, name=name) for name in sizes]
    blended = BlendedSamples(corpora, Blend(list(sizes), phases((0, {"small": 1.0, "large": 3.0}))))
    ids = [document.sample_id for index in range(112) for document in blended[index]]
    small = [one.split(":")[1] for one in ids if one.startswith("small")]
    assert len(ids) == 112 == len(set(ids)) and len(small) == 28
    for epoch in range(4):
        assert sorted(small[7 * epoch : 7 * epoch + 7]) == sorted(map(str, range(7)))
    with pytest.raises(IndexError):
        blended[-1]


def test_weights_are_read_from_a_file_of_a_search_for_mixtures(tmp_path: Path) -> None:
    (tmp_path / "plain.json").write_text('{"notes": 0.7, "web": 3e-1}')
    (tmp_path / "blend.yaml").write_text("weights: {notes: 0.7, web: 0.3}\nprovenance: {method: regmix}\n")
    for path in (tmp_path / "plain.json", tmp_path / "blend.yaml", tmp_path):
        assert read_weights(path) == {"notes": 0.7, "web": 0.3}
    for content, problem in [
        ("weights: {}", "no weights"), ("- 1", "a list"), ("{a: x}", "weight of 'a' is 'x'"),
        ("{a: -1}", "weight of 'a' is -1"), ("{a: true}", "weight of 'a' is True"), ("{a: .inf}", "'a' is inf"),
    ]:  # fmt: skip
        (tmp_path / "bad.yaml").write_text(content)
        with pytest.raises(DataError, match=problem):
            read_weights(tmp_path / "bad.yaml")
    with pytest.raises(DataError, match="no such file"):
        read_weights(tmp_path / "absent.yaml")
