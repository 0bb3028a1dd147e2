"""There and back in one process: every tensor, type and file as it was, or nothing at all."""

from __future__ import annotations

import errno
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForCausalLM

from megatron_redone.checkpoint.hf_folder import SafetensorsFolder, write_safetensors
from megatron_redone.checkpoint.manifest import verify_checkpoint
from megatron_redone.checkpoint.write import write_checkpoint
from megatron_redone.common.errors import CheckpointError, DiskFullError, InputError
from megatron_redone.conversion import to_hf as to_hf_module, to_megatron as to_megatron_module
from megatron_redone.conversion.hf_model import HEAD
from megatron_redone.conversion.to_hf import ToHF
from megatron_redone.conversion.to_megatron import Dtype, ToMegatron
from megatron_redone.conversion.units import Record, Unit
from megatron_redone.models.config import ModelShape
from megatron_redone.parallel.context import ParallelContext
from tests.unit.conversion.conftest import COMPANION_TEXTS, small

HubFolder = Callable[..., Path]


def returns(hub: Path) -> Path:
    """Converts there and back, checks every tensor and file, and gives the folder that came back."""
    megatron, back = hub.parent / "megatron", hub.parent / "back"
    ToMegatron(hub, megatron).run()
    ToHF(megatron, back).run()
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
def test_every_family_returns(hub_folder: HubFolder, shape: ModelShape, dtype: str) -> None:
    hub = hub_folder(shape, dtype)
    returns(hub)
    assert verify_checkpoint(hub.parent / "megatron")["dtype"] == {"float32": "F32", "bfloat16": "BF16"}[dtype]


def test_files_beside_the_weights_return_byte_for_byte(hub_folder: HubFolder) -> None:
    hub = hub_folder(small("llama-tiny"))
    (hub / "notes.txt").write_text("not ours to carry")
    back = returns(hub)
    found = {str(path.relative_to(back)) for path in back.rglob("*") if path.is_file()}
    assert found == {"config.json", "model.safetensors", "README.md", *COMPANION_TEXTS}
    for name, text in COMPANION_TEXTS.items():
        assert (back / name).read_bytes() == text.encode()


def test_each_tensor_keeps_its_own_type(hub_folder: HubFolder) -> None:
    def mix(tensors: dict[str, Tensor]) -> None:
        for name in tensors:
            if name.endswith("norm.weight"):
                tensors[name] = tensors[name].float() + 1e-6
            elif "down_proj" in name:
                tensors[name] = tensors[name].half()

    hub = hub_folder(small("qwen3-tiny"), "bfloat16")
    change_weights(hub, mix)
    returns(hub)


def test_shards_are_read(hub_folder: HubFolder) -> None:
    hub = hub_folder(small("llama-tiny"))
    tensors = load_file(hub / "model.safetensors")
    (hub / "model.safetensors").unlink()
    write_safetensors(hub, tensors.items(), shard_bytes=50_000)
    assert len(list(hub.glob("*.safetensors"))) > 2
    returns(hub)


def test_a_repeated_tied_head_and_old_rotary_tables_return(hub_folder: HubFolder) -> None:
    def add(tensors: dict[str, Tensor]) -> None:
        tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()
        tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.rand(8)

    hub = hub_folder(small("qwen3-tiny"))
    change_weights(hub, add)
    returns(hub)


def test_a_tied_head_of_its_own_is_refused(hub_folder: HubFolder) -> None:
    def add(tensors: dict[str, Tensor]) -> None:
        tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"] + 1

    hub = hub_folder(small("qwen3-tiny"))
    change_weights(hub, add)
    with pytest.raises(CheckpointError, match=r"tie_word_embeddings, yet lm_head.weight differs"):
        ToMegatron(hub, hub.parent / "megatron").run()
    assert not (hub.parent / "megatron").exists()


def test_without_a_tokenizer_there_is_a_warning(hub_folder: HubFolder, caplog: pytest.LogCaptureFixture) -> None:
    def warnings() -> list[str]:
        return [record.getMessage() for record in caplog.records if record.name == "redone.convert"]

    hub = hub_folder(small("llama-tiny"))
    returns(hub)
    assert warnings() == []
    (hub / "tokenizer.json").unlink()
    ToMegatron(hub, hub.parent / "another").run()
    assert warnings() == [f"{hub}: no tokenizer there; the checkpoint will have none either"]


def test_a_damaged_checkpoint_gives_nothing(hub_folder: HubFolder) -> None:
    hub = hub_folder(small("llama-tiny"))
    megatron, back = hub.parent / "megatron", hub.parent / "back"
    ToMegatron(hub, megatron).run()
    weights = megatron / "__0_0.distcp"
    content = bytearray(weights.read_bytes())
    content[-100] ^= 64
    weights.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"__0_0.distcp: the checksum differs"):
        ToHF(megatron, back).run()
    assert not back.exists()


def test_a_checkpoint_of_a_stage_is_not_a_converted_model(parallel_context: ParallelContext, tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "step", {}, {"step": 3}, parallel_context)
    with pytest.raises(CheckpointError, match="a checkpoint of a training stage"):
        ToHF(tmp_path / "step", tmp_path / "back").run()


def test_an_interrupted_export_leaves_nothing(hub_folder: HubFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    def fill_disk(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    hub = hub_folder(small("llama-tiny"))
    ToMegatron(hub, hub.parent / "megatron").run()
    monkeypatch.setattr(to_hf_module, "copy_companions", fill_disk)
    with pytest.raises(DiskFullError):
        ToHF(hub.parent / "megatron", hub.parent / "back").run()
    assert sorted(path.name for path in hub.parent.iterdir()) == [".back.partial", "hub", "megatron"]


def test_nothing_is_overwritten(hub_folder: HubFolder) -> None:
    hub = hub_folder(small("llama-tiny"))
    empty = hub.parent / "empty"
    empty.mkdir()
    ToMegatron(hub, empty).run()  # an empty folder may be filled
    for job in (ToMegatron(hub, empty), ToHF(empty, empty)):
        with pytest.raises(InputError, match="exists and is not empty"):
            job.run()
    verify_checkpoint(empty)


def stack_experts(hub: Path) -> None:
    """Lays the experts of each layer into one tensor, as transformers keeps them in memory."""
    tensors = load_file(hub / "model.safetensors")
    for layer in range(2):
        prefix = f"model.layers.{layer}.mlp.experts"
        apart = {kind: [tensors.pop(f"{prefix}.{e}.{kind}.weight") for e in range(8)] for kind in PROJECTIONS}
        gate_up = [torch.cat(pair) for pair in zip(apart["gate_proj"], apart["up_proj"], strict=True)]
        tensors[f"{prefix}.gate_up_proj"] = torch.stack(gate_up)
        tensors[f"{prefix}.down_proj"] = torch.stack(apart["down_proj"])
    save_file(tensors, hub / "model.safetensors")


PROJECTIONS = ("gate_proj", "up_proj", "down_proj")


def test_stacked_experts_are_the_same_model_and_return_stacked(hub_folder: HubFolder) -> None:
    hub = hub_folder(small("qwen3-moe-tiny"), "bfloat16")
    before = {name: tensor.clone() for name, tensor in SafetensorsFolder(hub).items()}
    stack_experts(hub)
    stacked = SafetensorsFolder(hub)
    assert stacked.stacked_experts and set(stacked) == set(before)
    for name, tensor in before.items():
        assert torch.equal(stacked[name], tensor) and stacked.header(name).shape == tuple(tensor.shape), name
    back = returns(hub)
    assert load_file(back / "model.safetensors").keys() == load_file(hub / "model.safetensors").keys()


@pytest.mark.parametrize(("dtype", "expected"), [("bf16", torch.bfloat16), ("fp32", torch.float32)])
def test_all_weights_in_another_type(hub_folder: HubFolder, dtype: Dtype, expected: torch.dtype) -> None:
    hub = hub_folder(small("qwen3-tiny"))
    megatron, back = hub.parent / "megatron", hub.parent / "back"
    ToMegatron(hub, megatron, dtype=dtype).run()
    ToHF(megatron, back).run()
    original, returned = SafetensorsFolder(hub), SafetensorsFolder(back)
    assert all(torch.equal(returned[name], original[name].to(expected)) for name in original)
    config = json.loads((back / "config.json").read_text())
    assert config["dtype"] == str(expected).removeprefix("torch.")


def test_shards_have_the_size_asked_for(hub_folder: HubFolder) -> None:
    hub = hub_folder(small("llama-tiny"))
    megatron, back = hub.parent / "megatron", hub.parent / "back"
    ToMegatron(hub, megatron).run()
    ToHF(megatron, back, shard_bytes=70_000).run(processes=2)
    sizes = [path.stat().st_size for path in sorted(back.glob("model-*.safetensors"))]
    assert len(sizes) > 2 and max(sizes) < 72_000
    assert AutoModelForCausalLM.from_pretrained(back).config.num_hidden_layers == 2
    original, returned = SafetensorsFolder(hub), SafetensorsFolder(back)
    assert all(torch.equal(returned[name], original[name]) for name in original)


def test_an_interrupted_conversion_keeps_what_is_done_and_checks_it(
    hub_folder: HubFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(to_megatron_module, "UNIT_BYTES", 60_000)
    hub = hub_folder(small("llama-tiny"))
    job = ToMegatron(hub, hub.parent / "megatron")
    done: list[int] = []
    write = to_megatron_module._write_unit

    def interrupted(job: ToMegatron, unit: Unit, folder: Path) -> Record:
        if unit.number == 3:
            raise KeyboardInterrupt
        done.append(unit.number)
        return write(job, unit, folder)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(to_megatron_module, "_write_unit", interrupted)
        job.run()
    assert done == [0, 1, 2] and not job.out.exists()
    damaged = next((hub.parent / ".megatron.partial").glob("__0_1.distcp"))
    damaged.write_bytes(damaged.read_bytes()[:-1])
    done.clear()

    def counted(job: ToMegatron, unit: Unit, folder: Path) -> Record:
        done.append(unit.number)
        return write(job, unit, folder)

    monkeypatch.setattr(to_megatron_module, "_write_unit", counted)
    job.run()
    assert done == [1, *range(3, len(job.units()))]
    returned = ToHF(job.out, hub.parent / "back")
    returned.run()
    assert torch.equal(load_file(returned.out / "model.safetensors")[HEAD], load_file(hub / "model.safetensors")[HEAD])


def test_space_is_asked_for_before_the_first_byte(hub_folder: HubFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = hub_folder(small("llama-tiny"))
    free = shutil.disk_usage(hub)._replace(free=1000)
    monkeypatch.setattr("megatron_redone.conversion.units.shutil.disk_usage", lambda path: free)
    with pytest.raises(DiskFullError, match="are still to be written and 0 MiB are free"):
        ToMegatron(hub, hub.parent / "megatron").run()
    assert list((hub.parent / ".megatron.partial").glob("*.distcp")) == []
