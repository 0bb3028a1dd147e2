"""There and back in one process: every tensor, type and file as it was, or nothing at all."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from megatron_redone.checkpoint.distributed import verify_checkpoint
from megatron_redone.checkpoint.hf_folder import SafetensorsFolder, write_safetensors
from megatron_redone.checkpoint.write import write_checkpoint
from megatron_redone.common.errors import CheckpointError, DiskFullError, InputError
from megatron_redone.conversion import to_hf as to_hf_module
from megatron_redone.conversion.to_hf import to_hf
from megatron_redone.conversion.to_megatron import to_megatron
from megatron_redone.models.config import ModelShape
from megatron_redone.parallel.context import ParallelContext
from tests.unit.conversion.conftest import COMPANION_TEXTS, small

HubFolder = Callable[..., Path]


def returns(hub: Path, context: ParallelContext) -> Path:
    """Converts there and back, checks every tensor and file, and gives the folder that came back."""
    megatron, back = hub.parent / "megatron", hub.parent / "back"
    to_megatron(hub, megatron, context)
    to_hf(megatron, back, context)
    original, returned = SafetensorsFolder(hub), SafetensorsFolder(back)
    assert set(original) == set(returned)
    for name in original:
        assert original[name].dtype == returned[name].dtype, name
        assert torch.equal(original[name], returned[name]), name
    assert (back / "config.json").read_bytes() == (hub / "config.json").read_bytes()
    return back


def change_weights(hub: Path, change: Callable[[dict[str, Tensor]], None]) -> None:
    tensors = load_file(hub / "model.safetensors")
    change(tensors)
    save_file(tensors, hub / "model.safetensors")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    "shape",
    [small("llama-tiny"), small("qwen2.5-tiny"), small("qwen3-tiny"), small("qwen3-moe-tiny")],
    ids=lambda shape: shape.family,
)
def test_every_family_returns(
    hub_folder: HubFolder, parallel_context: ParallelContext, shape: ModelShape, dtype: str
) -> None:
    hub = hub_folder(shape, dtype)
    returns(hub, parallel_context)
    precision = verify_checkpoint(hub.parent / "megatron")["precision"]
    assert precision == {"float32": "fp32", "bfloat16": "bf16"}[dtype]


def test_files_beside_the_weights_return_byte_for_byte(
    hub_folder: HubFolder, parallel_context: ParallelContext
) -> None:
    hub = hub_folder(small("llama-tiny"))
    (hub / "notes.txt").write_text("not ours to carry")
    back = returns(hub, parallel_context)
    found = {str(path.relative_to(back)) for path in back.rglob("*") if path.is_file()}
    assert found == {"config.json", "model.safetensors", *COMPANION_TEXTS}
    for name, text in COMPANION_TEXTS.items():
        assert (back / name).read_bytes() == text.encode()


def test_each_tensor_keeps_its_own_type(hub_folder: HubFolder, parallel_context: ParallelContext) -> None:
    def mix(tensors: dict[str, Tensor]) -> None:
        for name in tensors:
            if name.endswith("norm.weight"):
                tensors[name] = tensors[name].float() + 1e-6
            elif "down_proj" in name:
                tensors[name] = tensors[name].half()

    hub = hub_folder(small("qwen3-tiny"), "bfloat16")
    change_weights(hub, mix)
    returns(hub, parallel_context)


def test_shards_are_read(hub_folder: HubFolder, parallel_context: ParallelContext) -> None:
    hub = hub_folder(small("llama-tiny"))
    tensors = load_file(hub / "model.safetensors")
    (hub / "model.safetensors").unlink()
    write_safetensors(hub, tensors.items(), shard_bytes=50_000)
    assert len(list(hub.glob("*.safetensors"))) > 2
    returns(hub, parallel_context)


def test_a_repeated_tied_head_and_old_rotary_tables_return(
    hub_folder: HubFolder, parallel_context: ParallelContext
) -> None:
    def add(tensors: dict[str, Tensor]) -> None:
        tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()
        tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.rand(8)

    hub = hub_folder(small("qwen3-tiny"))
    change_weights(hub, add)
    returns(hub, parallel_context)


def test_a_tied_head_of_its_own_is_refused(hub_folder: HubFolder, parallel_context: ParallelContext) -> None:
    def add(tensors: dict[str, Tensor]) -> None:
        tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"] + 1

    hub = hub_folder(small("qwen3-tiny"))
    change_weights(hub, add)
    with pytest.raises(CheckpointError, match=r"tie_word_embeddings, yet lm_head.weight differs"):
        to_megatron(hub, hub.parent / "megatron", parallel_context)
    assert not (hub.parent / "megatron").exists()


def test_without_a_tokenizer_there_is_a_warning(
    hub_folder: HubFolder, parallel_context: ParallelContext, caplog: pytest.LogCaptureFixture
) -> None:
    def warnings() -> list[str]:
        return [record.getMessage() for record in caplog.records if record.name == "redone.convert"]

    hub = hub_folder(small("llama-tiny"))
    returns(hub, parallel_context)
    assert warnings() == []
    (hub / "tokenizer.json").unlink()
    to_megatron(hub, hub.parent / "another", parallel_context)
    assert warnings() == [f"{hub}: no tokenizer there; the checkpoint will have none either"]


def test_a_damaged_checkpoint_gives_nothing(hub_folder: HubFolder, parallel_context: ParallelContext) -> None:
    hub = hub_folder(small("llama-tiny"))
    megatron, back = hub.parent / "megatron", hub.parent / "back"
    to_megatron(hub, megatron, parallel_context)
    weights = megatron / "__0_0.distcp"
    content = bytearray(weights.read_bytes())
    content[-100] ^= 64
    weights.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"__0_0.distcp: the checksum differs"):
        to_hf(megatron, back, parallel_context)
    assert not back.exists()


def test_a_checkpoint_of_a_stage_is_not_a_converted_model(parallel_context: ParallelContext, tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "step", {}, {"step": 3}, parallel_context)
    with pytest.raises(CheckpointError, match="a checkpoint of a training stage"):
        to_hf(tmp_path / "step", tmp_path / "back", parallel_context)


def test_an_interrupted_export_leaves_nothing(
    hub_folder: HubFolder, parallel_context: ParallelContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill_disk(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    hub = hub_folder(small("llama-tiny"))
    to_megatron(hub, hub.parent / "megatron", parallel_context)
    monkeypatch.setattr(to_hf_module, "copy_companions", fill_disk)
    before = sorted(path.name for path in hub.parent.iterdir())
    with pytest.raises(DiskFullError):
        to_hf(hub.parent / "megatron", hub.parent / "back", parallel_context)
    assert sorted(path.name for path in hub.parent.iterdir()) == before


def test_nothing_is_overwritten(hub_folder: HubFolder, parallel_context: ParallelContext) -> None:
    hub = hub_folder(small("llama-tiny"))
    empty = hub.parent / "empty"
    empty.mkdir()
    to_megatron(hub, empty, parallel_context)  # an empty folder may be filled
    for convert, source in ((to_megatron, hub), (to_hf, empty)):
        with pytest.raises(InputError, match="exists and is not empty"):
            convert(source, empty, parallel_context)
    verify_checkpoint(empty)
