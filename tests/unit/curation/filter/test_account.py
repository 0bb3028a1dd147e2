from __future__ import annotations

from pathlib import Path

from hypothesis import given, settings, strategies as st

from megatron_redone.curation.filter.account import Account, length_bin, length_edge, logprob_bin


def filled(places: list[int]) -> Account:
    account = Account(seed=3, samples_per_reason=4, sample_characters=5)
    for place in places:
        account.line("f")
        account.count("read", "x" * place, place)
        account.drop("short", "why", f"d{place}", "text of it", place, f"f:{place}")
        account.change({"email": 1})
    return account


@settings(max_examples=30)
@given(st.lists(st.integers(0, 1000), unique=True, max_size=30), st.integers(0, 30))
def test_merged_accounts_equal_the_account_of_all(places: list[int], cut: int) -> None:
    import tempfile

    merged = Account(seed=3, samples_per_reason=4, sample_characters=5)
    with tempfile.TemporaryDirectory() as name:
        for number, part in enumerate((places[:cut], places[cut:])):
            filled(part).write(Path(name) / f"{number}.json")
            merged.merge_file(Path(name) / f"{number}.json")
    whole = filled(places)
    assert merged.tallies == whole.tallies
    assert merged.histograms == whole.histograms
    assert (merged.lines, merged.changed) == (whole.lines, whole.changed)
    for reason, samples in whole.samples.items():
        assert list(merged.samples[reason].items()) == list(samples.items())
        assert len(list(samples.items())) == min(4, len(places))


def test_samples_are_cut_and_say_how_long_the_text_was() -> None:
    (item,) = filled([7]).samples["short"].items()
    assert (item["text"], item["characters"], item["source"], item["detail"]) == ("text ", 10, "f:7", "why")


@given(st.integers(1, 10**6))
def test_lengths_lie_in_their_bin(units: int) -> None:
    place = length_bin(units)
    assert length_edge(place) * 0.9999 <= units < length_edge(place + 1) * 1.0001


def test_bins_of_nothing_and_of_likelihoods() -> None:
    assert length_edge(length_bin(0)) == 0.0
    assert [logprob_bin(value) for value in (-0.1, -0.25, -0.26, -3.0)] == [-1, -1, -2, -12]
