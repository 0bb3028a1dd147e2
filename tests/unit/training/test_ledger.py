"""The chain of the data ledger tells every other order, split or repetition apart, and goes on from a checkpoint."""

from __future__ import annotations

from collections.abc import Sequence

from megatron_redone.training.ledger import DataLedger


def chain(*batches: Sequence[str]) -> str:
    ledger = DataLedger()
    for batch in batches:
        ledger.add(batch)
    return ledger.chain


def test_a_skipped_repeated_or_moved_sample_changes_the_chain() -> None:
    right = chain(["a", "b"], ["c"])
    others = [
        chain(["a", "b"]), chain(["a"], ["c"]), chain(["a", "b"], ["b"], ["c"]), chain(["b", "a"], ["c"]),
        chain(["a"], ["b", "c"]), chain(["ab"], ["c"]), chain(["a,1:b"], ["c"]), chain(["a", "b"], ["c"], []),
    ]  # fmt: skip
    assert len({right, *others}) == 9
    assert chain(["a", "b"], ["c"]) == right


def test_it_goes_on_from_its_state() -> None:
    first, second = DataLedger(), DataLedger()
    first.add(["a", "b"])
    second.restore(first.state())
    for ledger in (first, second):
        ledger.add(["c"])
    assert second.state() == first.state() == {"num_samples": 3, "chain": chain(["a", "b"], ["c"])}
