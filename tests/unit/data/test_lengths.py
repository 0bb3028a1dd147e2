from __future__ import annotations

import math

from hypothesis import given, strategies as st

from megatron_redone.data.lengths import LengthHistogram

lengths = st.lists(st.integers(0, 5000), min_size=1, max_size=200)


@given(found=lengths, share=st.sampled_from([0.01, 0.5, 0.9, 0.95, 1.0]))
def test_quantiles_are_those_of_the_sorted_lengths(found: list[int], share: float) -> None:
    histogram = LengthHistogram(found)
    value = histogram.quantile(share)
    assert value == sorted(found)[max(1, math.ceil(share * len(found) - 1e-9)) - 1]
    assert sum(length <= value for length in found) >= share * len(found) - 1e-9
    assert sum(length < value for length in found) < share * len(found) + 1e-9
    assert (histogram.count, histogram.total, histogram.longest) == (len(found), sum(found), max(found))


@given(found=lengths)
def test_bars_hold_every_length_once(found: list[int]) -> None:
    bars = LengthHistogram(found).bars()
    assert sum(count for _, _, count in bars) == len(found)
    for low, high, count in bars:
        inside = sum(low * (1 - 1e-9) <= max(length, 1) < high * (1 - 1e-9) for length in found)
        assert inside == count


def test_nothing_has_no_lengths() -> None:
    histogram = LengthHistogram()
    assert (histogram.quantile(0.5), histogram.longest, histogram.count, histogram.bars()) == (0, 0, 0, [])
