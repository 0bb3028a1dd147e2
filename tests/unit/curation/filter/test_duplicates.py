from __future__ import annotations

from pathlib import Path

import numpy as np
from hypothesis import given, settings, strategies as st

from megatron_redone.common.seeding import rng
from megatron_redone.curation.filter.config import MinHashConfig
from megatron_redone.curation.filter.identity import (
    hash_text,
    later_of_same_key,
    read_places,
    records_in_range,
    without_places,
    write_places,
    write_records,
)
from megatron_redone.curation.filter.near_duplicates import PAIR, Signatures, later_of_clusters

Shards = list[list[tuple[str, str]]]


def found(
    shards: Shards, what: str, folder: Path, num_ranges: int, without: Path | None = None
) -> set[tuple[int, int]]:
    """(shard, index) of documents that repeat a text, or an id with another text."""
    for shard, documents in enumerate(shards):
        ids, texts = [hash_text(i) for i, _ in documents], [hash_text(t) for _, t in documents]
        write_records(folder / "ids" / f"{shard:05d}.npy", ids, texts, shard)
        write_records(folder / "texts" / f"{shard:05d}.npy", texts, ids, shard)
    places = folder / f"places-{what}"
    for part in range(num_ranges):
        records = records_in_range(folder / what, part, num_ranges)
        if without is not None:
            records = without_places(records, without, len(shards))
        write_places(places / f"{part:05d}", later_of_same_key(records, what == "ids"), len(shards))
    return {(shard, int(index)) for shard in range(len(shards)) for index in read_places(places, shard)}


@settings(max_examples=30)
@given(
    st.lists(st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from("wxyz")), max_size=6), min_size=1, max_size=4),
    st.integers(1, 5),
)
def test_exact_search_agrees_with_a_dictionary(shards: Shards, num_ranges: int) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        ids = found(shards, "ids", Path(name), num_ranges)
        texts = found(shards, "texts", Path(name), num_ranges, Path(name) / "places-ids")
    first_text: dict[str, str] = {}
    refused, seen, repeated = set(), set(), set()
    for shard, documents in enumerate(shards):
        for index, (id, text) in enumerate(documents):
            if first_text.setdefault(id, text) != text:
                refused.add((shard, index))
            elif text in seen:
                repeated.add((shard, index))
            else:
                seen.add(text)
    assert ids == refused
    assert texts == repeated


def test_clusters_keep_their_first_document_over_shards() -> None:
    pairs = np.array([[1, 5, 2, 0], [0, 9, 1, 5], [3, 3, 3, 4], [3, 4, 3, 7], [3, 3, 3, 7]], PAIR)
    assert {shard: indices.tolist() for shard, indices in later_of_clusters(pairs).items()} == {
        1: [5],
        2: [0],
        3: [4, 7],
    }
    assert later_of_clusters(np.zeros((0, 4), PAIR)) == {}


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5), st.integers(0, 3), st.integers(0, 5)), max_size=20))
def test_clusters_agree_with_merging_sets(pairs: list[tuple[int, int, int, int]]) -> None:
    clusters: list[set[tuple[int, int]]] = []
    for s1, i1, s2, i2 in pairs:
        joined = {(s1, i1), (s2, i2)}
        for cluster in [c for c in clusters if c & joined]:
            clusters.remove(cluster)
            joined |= cluster
        clusters.append(joined)
    expected = {place for cluster in clusters for place in cluster if place != min(cluster)}
    removed = later_of_clusters(np.array(pairs, PAIR).reshape(-1, 4))
    assert {(shard, int(index)) for shard, indices in removed.items() for index in indices} == expected


def similarity(left: str, right: str, folder: Path) -> float:
    """Share of equal hashes in the signatures: MinHash's estimate of Jaccard similarity."""
    step = Signatures(folder, MinHashConfig())
    one, two = (np.array(step.get_signature(step.get_shingles(text))) for text in (left, right))
    return float(np.mean(one == two))


def test_signatures_estimate_the_similarity_of_chinese_and_english(tmp_path: Path) -> None:
    draw = rng("signatures")
    han = [chr(draw.randrange(0x4E00, 0x9000)) for _ in range(400)]
    words = [f"word{draw.randrange(10_000)}" for _ in range(400)]
    for glue, tokens in (("", han), (" ", words)):
        text, half = glue.join(tokens), glue.join(tokens[:200])
        assert similarity(text, text, tmp_path) == 1.0
        assert 0.3 < similarity(text, half, tmp_path) < 0.7  # true value 0.49
        assert similarity(text, glue.join(reversed(tokens)), tmp_path) < 0.1


def test_a_text_shorter_than_a_shingle_has_none(tmp_path: Path) -> None:
    assert Signatures(tmp_path, MinHashConfig()).get_shingles("四个汉字").shape == (0, 1)
