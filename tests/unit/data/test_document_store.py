from __future__ import annotations

from hypothesis import given, strategies as st

from megatron_redone.data.document import Document
from megatron_redone.data.document_store import DocumentStore

documents = st.lists(
    st.tuples(
        st.lists(st.tuples(st.integers(0, 2**32 - 1), st.booleans()), min_size=1, max_size=9),
        st.floats(0.01, 8),
    ),
    max_size=12,
)


@given(made=documents, max_tokens=st.none() | st.integers(1, 10))
def test_what_is_added_is_read_back_in_any_order(
    made: list[tuple[list[tuple[int, bool]], float]], max_tokens: int | None
) -> None:
    with DocumentStore() as store:
        check(store, made, max_tokens)


def check(store: DocumentStore, made: list[tuple[list[tuple[int, bool]], float]], max_tokens: int | None) -> None:
    expected = []
    for number, (tokens, weight) in enumerate(made):
        ids, learnt = [token for token, _ in tokens], [flag for _, flag in tokens]
        store.add(ids, learnt, weight, f"d{number}")
        whole = Document(ids, [flag * weight for flag in learnt], f"d{number}")
        expected.append(whole if max_tokens is None else whole.truncated(max_tokens))
        assert store.document(number, max_tokens) == expected[-1]  # reading between writing
    assert store.lengths == [len(tokens) for tokens, _ in made] and len(store) == len(made)
    assert [store.document(index, max_tokens) for index in reversed(range(len(made)))] == expected[::-1]
