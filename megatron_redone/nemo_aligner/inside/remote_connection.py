"""Messages to the process with the engine, as seen from NeMo-Aligner's environment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, BinaryIO

from megatron_redone.nemo_aligner.wire import Array, Message, WireError, receive, send


class Connection:
    """Asks the process with the engine, and waits for its answer."""

    def __init__(self, reading: BinaryIO, writing: BinaryIO) -> None:
        self.reading, self.writing = reading, writing

    def receive(self) -> Message:
        """The next message.

        Raises:
            WireError: the engine's process has ended.
        """
        message = receive(self.reading)
        if message is None:
            raise WireError("the process with the engine has ended")
        return message

    def tell(self, kind: str, **values: Any) -> None:
        """Sends a message that nobody answers."""
        send(self.writing, kind, values)

    def ask(self, kind: str, arrays: Mapping[str, Array] = {}, **values: Any) -> Message:
        """Sends a question; its answer."""
        send(self.writing, kind, values, arrays)
        return self.receive()
