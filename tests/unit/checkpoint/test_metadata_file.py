"""The metadata of a checkpoint is a pickle: whatever it names beyond a checkpoint's parts is refused, and not run."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.distributed.checkpoint.metadata import BytesStorageMetadata, Metadata

from megatron_redone.checkpoint.manifest import MANIFEST, verify_checkpoint
from megatron_redone.checkpoint.metadata_file import METADATA, check_metadata
from megatron_redone.checkpoint.write import write_checkpoint
from megatron_redone.common.errors import CheckpointError
from megatron_redone.common.files import sha256_file
from megatron_redone.parallel.context import ParallelContext


class Runs:
    """An object whose pickle calls a function."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


@pytest.fixture
def checkpoint(parallel_context: ParallelContext, tmp_path: Path) -> Path:
    from megatron.core.dist_checkpointing import ShardedTensor

    folder = tmp_path / "checkpoint"
    state = {"weight": ShardedTensor.from_rank_offsets("weight", torch.ones(3, 2, dtype=torch.bfloat16))}
    write_checkpoint(folder, state, {"note": 1}, parallel_context)
    return folder


def plant(folder: Path, content: bytes) -> None:
    """Replaces the metadata and its checksum, as one would who wants the file to be read."""
    (folder / METADATA).write_bytes(content)
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["files"][METADATA] = sha256_file(folder / METADATA)
    (folder / MANIFEST).write_text(json.dumps(manifest))


def test_our_own_metadata_pass(checkpoint: Path) -> None:
    check_metadata(checkpoint)
    assert verify_checkpoint(checkpoint) == {"note": 1}


@pytest.mark.parametrize(
    ("function", "named"),
    [(Path.touch, "Path.touch|builtins.getattr|getattr"), (eval, "builtins.eval"), (exec, "builtins.exec")],
)
def test_a_call_is_refused_and_not_made(checkpoint: Path, tmp_path: Path, function: Any, named: str) -> None:
    mark = tmp_path / "it ran"
    argument: Any = mark if function is Path.touch else f"open({str(mark)!r}, 'w')"
    plant(checkpoint, pickle.dumps(Runs(function, argument)))
    with pytest.raises(CheckpointError, match=f"not the metadata of a checkpoint .it names .*({named})"):
        verify_checkpoint(checkpoint)
    assert not mark.exists()


def test_a_call_hidden_in_good_metadata_is_refused_and_not_made(checkpoint: Path, tmp_path: Path) -> None:
    mark = tmp_path / "it ran"
    good = pickle.loads((checkpoint / METADATA).read_bytes())
    good.planner_data = [Runs(eval, f"open({str(mark)!r}, 'w')")]
    plant(checkpoint, pickle.dumps(good))
    with pytest.raises(CheckpointError, match=r"it names builtins\.eval"):
        verify_checkpoint(checkpoint)
    assert not mark.exists()


@pytest.mark.parametrize("content", [b"", b"not a pickle", pickle.dumps(torch.Size([1])), pickle.dumps(None)])
def test_what_is_no_metadata_is_told(checkpoint: Path, content: bytes) -> None:
    plant(checkpoint, content)
    with pytest.raises(CheckpointError, match="not the metadata of a checkpoint"):
        verify_checkpoint(checkpoint)


def test_pickled_objects_beside_the_tensors_are_refused(checkpoint: Path) -> None:
    plant(checkpoint, pickle.dumps(Metadata({"weight": BytesStorageMetadata()})))
    with pytest.raises(CheckpointError, match=r"1 entries are pickled objects \(weight, \.\.\.\)"):
        verify_checkpoint(checkpoint)


def test_no_object_of_the_metadata_is_a_function_that_acts(checkpoint: Path) -> None:
    """The one function of the list looks a name up in a table."""
    content = pickle.dumps(Runs(torch.serialization._get_layout, "torch.strided"))
    plant(checkpoint, content)
    with pytest.raises(CheckpointError, match="not the metadata of a checkpoint"):
        verify_checkpoint(checkpoint)
