"""The main rank's talk with the trainer's process, in which every rank takes part."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from megatron_redone.nemo_aligner.process import NemoAlignerProcess
from megatron_redone.nemo_aligner.wire import Array, Message
from megatron_redone.parallel.context import ParallelContext


class Conversation:
    """What the trainer asks is broadcast, so that every rank does its part; the main one answers.

    Args:
        process: None on ranks other than the main one.
    """

    def __init__(self, context: ParallelContext, process: NemoAlignerProcess | None) -> None:
        self.context, self.process = context, process

    def next(self) -> Message:
        """The next message. A collective."""
        received = None if self.process is None else self.process.receive()
        message: Message = self.context.broadcast_object(received, source=0)
        return message

    def reply(self, kind: str, values: Mapping[str, Any] = {}, arrays: Mapping[str, Array] = {}) -> None:
        """Sends an answer from the main rank."""
        if self.process is not None:
            self.process.send(kind, values, arrays)
