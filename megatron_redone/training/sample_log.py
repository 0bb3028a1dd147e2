"""Which samples every training step read, and which of them it learnt from: what lineage answers from.

One line a step, `{"step": 7, "read": ["row-1", "row-2"]}`. Where some were read and thrown away (DAPO: groups of equal
scores), `learnt` lists those that made the update. The log can be checked against the hash chain of the data ledger.

Cost: the ids, about 5 bytes a sample when compressed. For 20B tokens in documents of 500 that is 40M samples, about
1 GiB while training goes on and 0.2 GiB afterwards. Recomputing the ids from manifest and seed would cost nothing for
pretraining, but cannot be done for reinforcement, where what is read depends on the answers.
"""

from __future__ import annotations

import gzip
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from megatron_redone.common.files import disk_full_reported, fsync_directory

SAMPLES = "samples.jsonl"
PACKED_SAMPLES = "samples.jsonl.gz"


class SampleLog:
    """The log of one stage, written by its first rank; the other ranks' does nothing.

    Lines are appended while training goes on. A resume cuts off those of steps that will be repeated, so the finished
    file is the same whatever the interruptions.
    """

    def __init__(self, folder: Path, enabled: bool) -> None:
        self._folder, self._enabled = folder, enabled
        self._file: IO[bytes] | None = None

    def start(self, step: int) -> bool:
        """Opens the log for the steps from `step` on; False when steps before it are missing."""
        if not self._enabled:
            return True
        path = self._folder / SAMPLES
        with disk_full_reported(path):
            packed = self._folder / PACKED_SAMPLES
            if not path.exists() and packed.exists():  # killed after training, before the stage was published
                with gzip.open(packed, "rb") as source, path.open("wb") as target:
                    shutil.copyfileobj(source, target)
            packed.unlink(missing_ok=True)
            self._file = path.open("a+b")
            end, last = _end_before(self._file, step)
            self._file.truncate(end)
        return last == step - 1

    def add(self, step: int, read: Sequence[str], learnt: Sequence[str] | None) -> None:
        """Notes a step; `learnt` None: all that was read."""
        if self._file is not None:
            line: dict[str, Any] = {"step": step, "read": list(read)}
            if learnt is not None:
                line["learnt"] = list(learnt)
            with disk_full_reported(self._folder):
                self._file.write((json.dumps(line, ensure_ascii=False) + "\n").encode("utf-8", "surrogatepass"))

    def sync(self) -> None:
        """Makes what was noted durable: called before a checkpoint that stands for it."""
        if self._file is not None:
            with disk_full_reported(self._folder):
                self._file.flush()
                os.fsync(self._file.fileno())

    def close(self) -> None:
        """Writes out what is noted; the log can be started again."""
        if self._file is not None:
            with disk_full_reported(self._folder):
                self._file.close()
            self._file = None

    def pack(self) -> None:
        """Closes the log and compresses it; equal logs give equal bytes."""
        if self._file is None:
            return
        self.close()
        path, packed = self._folder / SAMPLES, self._folder / PACKED_SAMPLES
        partial = packed.with_name(f".{packed.name}.tmp")
        with disk_full_reported(packed):
            with path.open("rb") as source, partial.open("wb") as target:
                with gzip.GzipFile(filename="", mode="wb", fileobj=target, compresslevel=6, mtime=0) as compressed:
                    shutil.copyfileobj(source, compressed, 1 << 20)
                target.flush()
                os.fsync(target.fileno())
            partial.replace(packed)
        path.unlink()
        fsync_directory(self._folder)


def _end_before(file: IO[bytes], step: int) -> tuple[int, int]:
    """(bytes, number of the last step) of the whole lines of the steps before `step`."""
    end, last = 0, -1
    file.seek(0)
    for line in file:
        try:
            found = json.loads(line)["step"]
        except (ValueError, KeyError, TypeError):
            break  # torn by a kill: what is behind it will be done again
        if not line.endswith(b"\n") or found >= step:
            break
        end, last = end + len(line), found
    return end, last


def read_sample_log(path: Path) -> Iterator[Mapping[str, Any]]:
    """The lines of a packed log, in order.

    Raises:
        EOFError, OSError, ValueError: the file is damaged.
    """
    with gzip.open(path, "rb") as file:
        for line in file:
            yield json.loads(line)
