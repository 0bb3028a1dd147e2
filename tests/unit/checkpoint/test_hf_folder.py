"""Safetensors folders: one file or shards, and every way they can be broken."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from megatron_redone.checkpoint import hf_folder
from megatron_redone.checkpoint.hf_folder import INDEX_NAME, SafetensorsFolder, TensorHeader, write_safetensors
from megatron_redone.common.errors import CheckpointError

TENSORS = {
    "a": torch.arange(6, dtype=torch.float32).reshape(2, 3),
    "b": torch.tensor([1.5, -0.0], dtype=torch.bfloat16),
    "c": torch.arange(4, dtype=torch.float32),
    "d": torch.zeros(0, 4),
}


def same(one: Tensor, other: Tensor) -> bool:
    return one.dtype == other.dtype and torch.equal(one, other)


def file_names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("shard_bytes", [1, 24, 30, 1_000])
def test_what_is_written_in_shards_of_any_size_is_read(tmp_path: Path, shard_bytes: int) -> None:
    assert write_safetensors(tmp_path, TENSORS.items(), shard_bytes) == 24 + 4 + 16
    folder = SafetensorsFolder(tmp_path)
    assert list(folder) == list(TENSORS)
    assert all(same(folder[name], tensor) for name, tensor in TENSORS.items())


def test_names_of_shards_are_those_of_hugging_face(tmp_path: Path) -> None:
    write_safetensors(tmp_path, TENSORS.items(), shard_bytes=28)
    shards = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    assert file_names(tmp_path) == [*shards, INDEX_NAME]
    index = json.loads((tmp_path / INDEX_NAME).read_text())
    assert index["metadata"] == {"total_size": 44}
    assert index["weight_map"] == {"a": shards[0], "b": shards[0], "c": shards[1], "d": shards[1]}


def test_one_shard_needs_no_index(tmp_path: Path) -> None:
    write_safetensors(tmp_path, TENSORS.items())
    assert file_names(tmp_path) == ["model.safetensors"]


def test_files_have_the_access_rights_of_any_new_file(tmp_path: Path) -> None:
    write_safetensors(tmp_path, TENSORS.items())
    (tmp_path / "other").touch()
    assert (tmp_path / "model.safetensors").stat().st_mode == (tmp_path / "other").stat().st_mode


def test_a_part_of_a_larger_tensor_is_written_alone(tmp_path: Path) -> None:
    whole = torch.arange(12.0).reshape(3, 4)
    write_safetensors(tmp_path, [("rows", whole[:2]), ("columns", whole[:, 1:3])])
    folder = SafetensorsFolder(tmp_path)
    assert same(folder["rows"], whole[:2]) and same(folder["columns"], whole[:, 1:3].contiguous())
    assert (tmp_path / "model.safetensors").stat().st_size < 500


def test_header_tells_type_and_shape(tmp_path: Path) -> None:
    write_safetensors(tmp_path, TENSORS.items())
    assert SafetensorsFolder(tmp_path).header("b") == TensorHeader("BF16", (2,))


def test_an_unknown_name_is_a_key_error(tmp_path: Path) -> None:
    write_safetensors(tmp_path, TENSORS.items())
    assert "e" not in SafetensorsFolder(tmp_path)
    with pytest.raises(KeyError):
        SafetensorsFolder(tmp_path)["e"]


def test_a_folder_without_safetensors_is_told(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"neither model.safetensors nor .*save the model as safetensors"):
        SafetensorsFolder(tmp_path)


@pytest.mark.parametrize("kept", [0, 7, 100, -1])
def test_a_cut_file_is_told(tmp_path: Path, kept: int) -> None:
    write_safetensors(tmp_path, TENSORS.items())
    file = tmp_path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(CheckpointError, match=r"model.safetensors: damaged or incomplete .*download"):
        SafetensorsFolder(tmp_path)


def test_a_missing_shard_is_told(tmp_path: Path) -> None:
    write_safetensors(tmp_path, TENSORS.items(), shard_bytes=24)
    (tmp_path / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"names model-00002-of-00002.safetensors, not in the folder"):
        SafetensorsFolder(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"weight_map": 1}', "{"])
def test_an_index_that_is_none_is_told(tmp_path: Path, text: str) -> None:
    (tmp_path / INDEX_NAME).write_text(text)
    with pytest.raises(CheckpointError, match=f"{INDEX_NAME}: no index of shards"):
        SafetensorsFolder(tmp_path)


def test_an_index_that_places_a_tensor_wrongly_is_told(tmp_path: Path) -> None:
    save_file(TENSORS, tmp_path / "one.safetensors")
    (tmp_path / INDEX_NAME).write_text(json.dumps({"weight_map": {"a": "one.safetensors", "z": "one.safetensors"}}))
    with pytest.raises(CheckpointError, match=r"one.safetensors: lacks z"):
        SafetensorsFolder(tmp_path)


def test_a_full_disk_is_the_error_of_the_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fill_disk(*_: object, **__: object) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(hf_folder, "save_file", fill_disk)
    with pytest.raises(OSError, match="No space left") as raised:
        write_safetensors(tmp_path, TENSORS.items())
    assert raised.value.errno == errno.ENOSPC
