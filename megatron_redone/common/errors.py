"""The exceptions of the library.

RedoneError               exit code 1: something failed or a check did not pass
  InputError              exit code 2: the user's input is at fault; the message says value, rule, remedy
    ConfigError           every problem of a configuration at once
    DataError             a data file or row
    CheckpointError       a checkpoint or model folder
    SandboxUnavailableError  a score would need a program to be run, and no sandbox is safe here
  TrainingError           training went wrong; the weights are those before it
  DiskFullError           nothing was lost; free space and start again
  Interrupted             exit code 130: Ctrl-C; a checkpoint was written, the same command goes on
    Preempted             exit code 75: a signal or the time limit; likewise, and a launcher should start it again
"""

from __future__ import annotations

from collections.abc import Sequence


class RedoneError(Exception):
    """Base of all errors raised on purpose. `exit_code` is what the command line returns."""

    exit_code = 1


class InputError(RedoneError):
    """The user's input is at fault; the message states the value, the rule and the remedy."""

    exit_code = 2


class ConfigError(InputError):
    """All problems of a configuration at once."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = list(problems)
        head = "1 problem" if len(self.problems) == 1 else f"{len(self.problems)} problems"
        super().__init__(f"{head} in the configuration:\n" + "\n".join(f"  - {p}" for p in self.problems))

    def __reduce__(self) -> tuple[type[ConfigError], tuple[list[str]]]:
        """Pickled by its problems: it passes from worker processes and between ranks."""
        return type(self), (self.problems,)


class DataError(InputError):
    """A data file or one of its rows cannot be used."""


class CheckpointError(InputError):
    """A checkpoint or model folder cannot be used."""


class SandboxUnavailableError(InputError):
    """A score would need a program to be run, and no sandbox is safe on this machine."""


class TrainingError(RedoneError):
    """Training cannot go on: its numbers are no longer finite, or jump; no weight was spoilt."""


class DiskFullError(RedoneError):
    """The disk filled up while writing; what stood under the final name is untouched."""


class Interrupted(RedoneError):
    """The user stopped the run; work so far stands in a checkpoint."""

    exit_code = 130


class Preempted(Interrupted):
    """Something else than the user stopped the run; work so far stands in a checkpoint, and it wants to go on."""

    exit_code = 75
