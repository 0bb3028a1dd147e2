"""Ends a run that hangs, and says where: the stack of every rank, and the collective that each waits in.

A thread of each rank looks whether steps are still finished. When none was for too long, it writes the stacks of its
process to a file, waits a moment for the files of the other ranks, tells what they say, and ends the process. The
launcher then ends the rest. A rank that left no file is itself stopped or gone: the others wait for it.
"""

from __future__ import annotations

import faulthandler
import os
import sys
import threading
import time
import traceback
from pathlib import Path
from types import TracebackType

EXIT_CODE = 70
"""A process was lost or hangs: a launcher may start the run again (cli/main.py)."""
SECONDS_FOR_OTHERS = 5.0
"""How long a rank waits for the files of the others; all of them notice within a look of each other."""
LOOKS = 20
"""Looks in the time that a step may take."""


class Watchdog:
    """Watches the steps of one rank for as long as the context lasts.

    Args:
        seconds: longest time between two beats; None watches nothing.
        folder: where the stacks go, one file a rank; all ranks can write there.
    """

    def __init__(self, seconds: float | None, folder: Path, rank: int, world_size: int) -> None:
        self.seconds, self.folder, self.rank, self.world_size = seconds, folder, rank, world_size
        self._main = threading.main_thread().ident
        self._over = threading.Event()
        self._last = time.monotonic()
        self._thread: threading.Thread | None = None

    def beat(self) -> None:
        """A step is done."""
        self._last = time.monotonic()

    def __enter__(self) -> Watchdog:
        self.beat()
        if self.seconds is not None:
            self._thread = threading.Thread(target=self._watch, args=(self.seconds,), daemon=True)
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        if self._thread is not None:
            self._thread.join()

    def _watch(self, seconds: float) -> None:
        while not self._over.wait(seconds / LOOKS):
            if time.monotonic() - self._last > seconds:
                self._end(seconds)

    def _end(self, seconds: float) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._file(self.rank).open("w", encoding="utf-8") as file:
            file.write(f"rank {self.rank} {waits_in(self._main)}\n\n")
            file.flush()
            faulthandler.dump_traceback(file, all_threads=True)
        give_up = time.monotonic() + SECONDS_FOR_OTHERS
        while time.monotonic() < give_up and not all(self._file(rank).is_file() for rank in range(self.world_size)):
            time.sleep(0.05)
        print(
            f"watchdog: no step was finished in {seconds:.0f} s; stacks of all threads in {self.folder}",
            file=sys.stderr,
        )
        for rank in range(self.world_size):
            path = self._file(rank)
            said = (
                path.read_text(encoding="utf-8").partition("\n")[0] if path.is_file() else f"rank {rank} left no stack"
            )
            print(f"  {said}", file=sys.stderr)
        sys.stderr.flush()
        os._exit(EXIT_CODE)

    def _file(self, rank: int) -> Path:
        return self.folder / f"rank-{rank}.txt"


def waits_in(thread: int | None) -> str:
    """The collective that a thread of this process is in, if it is in one, and the line of ours that it came from."""
    frame = sys._current_frames().get(thread) if thread is not None else None
    if frame is None:
        return "has no main thread any more"
    calls = traceback.extract_stack(frame)
    collective = next((c.name for c in calls if c.filename.endswith("distributed_c10d.py")), None)
    ours = next((c for c in reversed(calls) if "megatron_redone" in Path(c.filename).parts), calls[-1])
    place = f"{ours.name} ({Path(ours.filename).name}:{ours.lineno})"
    return f"waits in {collective}, called from {place}" if collective else f"is in {place}"
