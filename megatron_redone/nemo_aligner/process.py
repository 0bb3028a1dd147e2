"""The process in NeMo-Aligner's environment, as seen from ours."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from megatron_redone.common.errors import TrainingError
from megatron_redone.launch.other_environment import start_module
from megatron_redone.nemo_aligner.wire import Array, Message, WireError, receive, send

MODULE = "megatron_redone.nemo_aligner.inside.start"
END_SECONDS = 30.0
SETTINGS = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "WANDB_MODE": "disabled"}
LAST_LINES = 5


class NemoAlignerProcess:
    """Runs `nemo_aligner/inside/start.py` and speaks with it; ends it when the `with` block ends.

    Args:
        python: of NeMo-Aligner's environment (requirements/nemo-aligner.txt).
        log: file of what it prints.
    """

    def __init__(self, python: Path, log: Path) -> None:
        self.python, self.log = python, log
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> NemoAlignerProcess:
        with self.log.open("ab") as log:
            self._process = start_module(self.python, MODULE, log, SETTINGS)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process is not None
        if error is not None:
            self._process.kill()
        for stream in self._streams():
            stream.close()
        try:
            self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def send(self, kind: str, values: Mapping[str, Any] = {}, arrays: Mapping[str, Array] = {}) -> None:
        """Sends a message.

        Raises:
            TrainingError: it has ended; the last lines of its log are quoted.
        """
        try:
            send(self._streams()[0], kind, values, arrays)
        except WireError as error:
            raise self._ended(str(error)) from error

    def receive(self) -> Message:
        """Its next message.

        Raises:
            TrainingError: it failed, or has ended; the last lines of its log are quoted.
        """
        try:
            message = receive(self._streams()[1])
        except WireError as error:
            raise self._ended(str(error)) from error
        if message is None:
            raise self._ended("it ended before its training did")
        if message.kind == "failed":
            raise self._ended(str(message.values["error"]))
        return message

    def _streams(self) -> tuple[BinaryIO, BinaryIO]:
        assert self._process is not None and self._process.stdin is not None and self._process.stdout is not None
        return self._process.stdin, self._process.stdout  # type: ignore[return-value]

    def _ended(self, problem: str) -> TrainingError:
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-LAST_LINES:]
        quoted = "".join(f"\n  {line}" for line in lines)
        return TrainingError(f"NeMo-Aligner's process failed: {problem}; the last lines of {self.log}:{quoted}")
