"""Messages arrive as they were sent, and damaged ones are refused."""

from __future__ import annotations

import io

import numpy as np
import pytest

from megatron_redone.nemo_aligner.wire import MAX_HEAD_BYTES, WireError, receive, send


def sent(*args: object) -> bytes:
    stream = io.BytesIO()
    send(stream, *args)  # type: ignore[arg-type]
    return stream.getvalue()


def test_values_and_arrays_arrive() -> None:
    arrays = {
        "matrix": np.arange(6, dtype=np.float32).reshape(2, 3).T,  # not contiguous
        "ids": np.array([-1, 2**40]),
        "empty": np.zeros((0, 4)),
    }
    values = {"text": "笔记\n\x00", "number": 0.1, "nested": {"list": [1, None, True]}}
    data = sent("kind", values, arrays)
    message = receive(io.BytesIO(data))
    assert message is not None and (message.kind, message.values) == ("kind", values)
    for name, array in arrays.items():
        assert message.arrays[name].dtype == array.dtype
        np.testing.assert_array_equal(message.arrays[name], array)


def test_messages_follow_one_another_to_the_end() -> None:
    stream = io.BytesIO(sent("a") + sent("b", {}, {"x": np.zeros(3)}) + sent("c"))
    kinds = []
    while (message := receive(stream)) is not None:
        kinds.append(message.kind)
    assert kinds == ["a", "b", "c"]


@pytest.mark.parametrize("cut", [1, 7, 8, 20, -1])
def test_a_message_that_ends_early_is_refused(cut: int) -> None:
    data = sent("kind", {"a": 1}, {"x": np.arange(5)})
    with pytest.raises(WireError):
        receive(io.BytesIO(data[:cut]))


def test_text_on_the_pipe_is_no_message() -> None:
    with pytest.raises(WireError, match=rf"at most {MAX_HEAD_BYTES} are read"):
        receive(io.BytesIO(b"Warning: something was printed\n"))


@pytest.mark.parametrize("dtype", ["|O", "|V8", "<U4", "<c16"])
def test_only_numbers_travel(dtype: str) -> None:
    head = b'{"kind": "k", "values": {}, "arrays": [["x", "%s", [1]]]}' % dtype.encode()
    with pytest.raises(WireError, match=r"damaged head"):
        receive(io.BytesIO(len(head).to_bytes(8, "little") + head + bytes(64)))
    if dtype != "|V8":
        with pytest.raises(WireError, match=r"can be sent"):
            send(io.BytesIO(), "kind", {}, {"x": np.zeros(1, dtype=dtype)})


def test_nobody_at_the_other_end(tmp_path: object) -> None:
    import os

    reader, writer = os.pipe()
    os.close(reader)
    with pytest.raises(WireError, match=r"the other process has ended"), os.fdopen(writer, "wb", buffering=0) as file:
        send(file, "kind", {"a": 1})
