"""Model folders that cannot be converted are refused by their headers, with every cause named."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from megatron_redone.common.errors import CheckpointError, ConfigError, InputError
from megatron_redone.conversion.hf_model import open_model
from megatron_redone.conversion.output import check_output
from megatron_redone.conversion.to_megatron import ToMegatron
from megatron_redone.parallel.config import ParallelConfig
from tests.unit.conversion.conftest import small

HubFolder = Callable[..., Path]
QUERY = "model.layers.0.self_attn.q_proj.weight"


def test_a_good_folder_is_described(hub_folder: HubFolder) -> None:
    model = open_model(hub_folder(small("qwen2.5-tiny"), "bfloat16"))
    assert model.shape == small("qwen2.5-tiny")
    assert (model.dtype, model.other_dtypes) == ("BF16", {})
    assert model.has_tokenizer and not model.has_tied_head and model.buffers == ()


def drop(tensors: dict[str, Tensor]) -> None:
    del tensors[QUERY]


def add(tensors: dict[str, Tensor]) -> None:
    tensors["model.layers.9.extra"] = torch.zeros(1)


def turn(tensors: dict[str, Tensor]) -> None:
    tensors[QUERY] = tensors[QUERY][:-1].clone()


def quantise(tensors: dict[str, Tensor]) -> None:
    tensors[QUERY] = tensors[QUERY].to(torch.int8)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (drop, f"1 missing \\({QUERY}\\)"),
        (add, "1 unknown \\(model.layers.9.extra\\)"),
        (turn, f"{QUERY} has shape \\[63, 64\\], config.json makes it \\[64, 64\\]"),
        (quantise, f"{QUERY} is I8, known are F32, BF16, F16"),
    ],
    ids=["missing", "extra", "shape", "type"],
)
def test_tensors_must_be_those_of_the_config(
    hub_folder: HubFolder, change: Callable[[dict[str, Tensor]], None], said: str
) -> None:
    folder = hub_folder(small("llama-tiny"))
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match=said):
        open_model(folder)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"architectures": ["GPT2LMHeadModel"]}, r"architectures=\['GPT2LMHeadModel'\] is not supported; known: Llama"),
        ({"num_key_value_heads": 3}, "num_heads=4 is not divisible by num_kv_heads=3"),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 4}}, "rope_scaling=.* is not supported"),
    ],
)
def test_a_config_we_cannot_represent_is_refused(hub_folder: HubFolder, changes: dict[str, object], said: str) -> None:
    folder = hub_folder(small("llama-tiny"))
    config = json.loads((folder / "config.json").read_text()) | changes
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=said):
        open_model(folder)


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no config.json; expected a Hugging Face model folder"):
        open_model(tmp_path)
    with pytest.raises(CheckpointError, match="no such folder"):
        open_model(tmp_path / "none")


@pytest.mark.parametrize(
    ("preset", "tp", "pp", "said"),
    [
        ("llama-tiny", 4, 1, "num_kv_heads=2 is not divisible by .*tp=4"),
        ("llama-tiny", 1, 3, "num_layers=2 is not divisible by .*pp=3"),
        ("qwen3-moe-tiny", 64, 1, "moe_ffn_hidden_size=32 is not divisible by .*etp=64"),
    ],
)
def test_a_layout_must_divide(hub_folder: HubFolder, preset: str, tp: int, pp: int, said: str) -> None:
    folder = hub_folder(small(preset))
    with pytest.raises(ConfigError, match=said):
        ToMegatron(
            folder, folder.parent / "out", ParallelConfig(tp=tp, pp=pp, etp=tp if preset == "qwen3-moe-tiny" else 1)
        ).check()


def test_output_is_a_new_or_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for allowed in ("empty", "new", "new/inside/another"):
        check_output(tmp_path / allowed)
    (tmp_path / "file").write_text("precious")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for refused, said in (
        ("", "is not empty"),
        ("file", "is no folder"),
        ("link", "is no folder"),
        ("file/inside", "not a folder that you may write to"),
    ):
        with pytest.raises(InputError, match=said):
            check_output(tmp_path / refused)
