"""The part of a training stage that every stage shares. Nothing is trained here."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest

from megatron_redone.common.errors import DiskFullError
from megatron_redone.parallel.context import ParallelContext
from megatron_redone.training.run import TrainingRun


@pytest.mark.parametrize("met_in", ["add_scalar", "close"])
def test_a_disk_that_the_curves_fill_is_told(
    met_in: str, parallel_context: ParallelContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Curves:
        def __init__(self, *arguments: Any, **settings: Any) -> None: ...

        def add_scalar(self, *arguments: Any) -> None:
            self.write("add_scalar")

        def close(self) -> None:
            self.write("close")

        def write(self, call: str) -> None:
            if call == met_in:
                raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("torch.utils.tensorboard.SummaryWriter", Curves)
    run = TrainingRun(tmp_path, "stage", 0, parallel_context)
    with pytest.raises(DiskFullError, match="the disk is full"):
        run.steps(None, 1, lambda step: {"loss": 1.0})  # type: ignore[arg-type]
