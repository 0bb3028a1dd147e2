"""A run timer for the trainers. Runs in NeMo-Aligner's environment, see `start.py`."""

from __future__ import annotations


class NoTimeLimit:
    """The process with the engine watches the time, and ends this one after a checkpoint."""

    def start_time(self) -> None:
        """Nothing is counted."""

    def is_finished(self) -> bool:
        """Never."""
        return False
