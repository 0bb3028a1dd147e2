from __future__ import annotations

from collections import Counter

from hypothesis import given, settings, strategies as st

from megatron_redone.curation.regmix.mixing import blend


class Numbers:
    """Row k of corpus `name` is [(name, k)]."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __getitem__(self, index: int) -> list[tuple[str, int]]:
        return [(self.name, index)]


def rows_of(weights: list[float], num_rows: int) -> list[tuple[str, int]]:
    corpora = [Numbers(str(place)) for place in range(len(weights))]
    mixed = blend(corpora, weights, num_rows)  # type: ignore[arg-type]
    return [mixed[row][0] for row in range(num_rows)]  # type: ignore[misc]


@given(st.lists(st.integers(0, 40), min_size=2, max_size=6).filter(any))
@settings(max_examples=60)
def test_shares_are_exact_where_they_are_whole_rows(counts: list[int]) -> None:
    found = Counter(name for name, _ in rows_of([float(count) for count in counts], sum(counts)))
    assert [found[str(place)] for place in range(len(counts))] == counts


@given(st.lists(st.floats(0.01, 1), min_size=2, max_size=6), st.integers(1, 80))
@settings(max_examples=60)
def test_no_corpus_is_a_row_ahead_at_any_time(weights: list[float], num_rows: int) -> None:
    shares = [weight / sum(weights) for weight in weights]
    seen: Counter[str] = Counter()
    for number, (name, _) in enumerate(rows_of(weights, num_rows), start=1):
        seen[name] += 1
        assert all(seen[str(place)] < share * number + 1 for place, share in enumerate(shares))


def test_each_corpus_is_read_in_its_own_order_from_its_start() -> None:
    rows = rows_of([0.5, 0.25, 0.25], 16)
    for name in "012":
        places = [place for corpus, place in rows if corpus == name]
        assert places == list(range(len(places)))
    assert rows_of([0.5, 0.25, 0.25], 16) == rows
    assert {name for name, _ in rows[:4]} == {"0", "1", "2"}, "shares hold from the beginning, not only at the end"
