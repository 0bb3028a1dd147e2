from __future__ import annotations

import pickle

import pytest

from megatron_redone.common.errors import ConfigError, DataError, DiskFullError, Interrupted, RedoneError


@pytest.mark.parametrize(
    "error",
    [ConfigError(["lr=0: must be positive", "steps=-1: must be positive"]), DataError("a.jsonl:3: not JSON"),
     DiskFullError("run: the disk is full"), Interrupted("stopped after step 3")],
    ids=lambda error: type(error).__name__,
)  # fmt: skip
def test_errors_pass_between_processes_unchanged(error: RedoneError) -> None:
    arrived = pickle.loads(pickle.dumps(error))
    assert type(arrived) is type(error)
    assert (str(arrived), arrived.exit_code) == (str(error), error.exit_code)
    assert getattr(arrived, "problems", None) == getattr(error, "problems", None)
