"""The converter as a user calls it: exit code 2 with the reason for bad input."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from megatron_redone.checkpoint.manifest import verify_checkpoint
from megatron_redone.cli.main import main
from megatron_redone.common.logging import CONSOLE
from megatron_redone.models.presets import get_preset
from tools.make_tiny_checkpoint import main as make_tiny, write_tiny_checkpoint

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def console_of_this_test(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Lines as long as they are; and the log, which the command line sends to stderr for good, as before."""
    monkeypatch.setattr(CONSOLE, "width", 10_000)
    logger = logging.getLogger("redone")
    before = list(logger.handlers), logger.level, logger.propagate
    yield
    logger.handlers[:], logger.level, logger.propagate = before


def reason(capfd: pytest.CaptureFixture[str]) -> str:
    """What was written to stderr, without line breaks."""
    return " ".join(capfd.readouterr().err.split())


def convert(command: str, **options: object) -> int:
    return main(["convert", command, *(text for name, value in options.items() for text in (f"--{name}", str(value)))])


def assert_same_model(one: Path, other: Path) -> None:
    before, after = load_file(one / "model.safetensors"), load_file(other / "model.safetensors")
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        assert after[name].dtype == tensor.dtype and torch.equal(after[name], tensor), name
    assert (one / "config.json").read_bytes() == (other / "config.json").read_bytes()


def test_experts_cut_over_two_ranks_return_through_the_module(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    hub, megatron, back = tmp_path / "hub", tmp_path / "megatron", tmp_path / "back"
    assert make_tiny(["--family", "qwen3_moe", "--dtype", "bfloat16", "--out", str(hub)]) == 0
    assert convert("to-megatron", hf=hub, out=megatron, tp=2) == 0
    said = reason(capfd)
    assert "no tokenizer there" in said and "qwen3_moe, 135 tensors" in said and "tp=2 pp=1 vpp=1 ep=1 etp=2" in said
    record = verify_checkpoint(megatron)
    assert (record["layout"], record["dtype"]) == ({"tp": 2, "pp": 1, "vpp": 1, "ep": 1, "etp": 2}, "BF16")
    command = ["-m", "checkpoints_conversion", "to-hf", "--megatron", str(megatron), "--out", str(back)]
    result = subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (0, "")
    assert f"{back}: qwen3_moe" in result.stderr
    assert_same_model(hub, back)


def test_a_tied_model_in_two_pipeline_stages_returns(tmp_path: Path) -> None:
    hub, megatron, back = tmp_path / "hub", tmp_path / "megatron", tmp_path / "back"
    write_tiny_checkpoint(get_preset("qwen2.5-tiny").model_copy(update={"vocab_size": 251}), hub)
    (hub / "tokenizer.json").write_text("{}")
    assert convert("to-megatron", hf=hub, out=megatron, pp=2) == 0
    assert {path.name for path in megatron.glob("*.distcp")} == {"__0_0.distcp", "__1_1.distcp"}
    assert convert("to-hf", megatron=megatron, out=back) == 0
    assert_same_model(hub, back)
    assert (back / "tokenizer.json").read_text() == "{}"


@pytest.fixture
def hub(tmp_path: Path) -> Path:
    write_tiny_checkpoint(get_preset("llama-tiny"), tmp_path / "hub")
    return tmp_path / "hub"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"tp": 4}, "num_kv_heads=2 is not divisible by parallel.tp=4; choose a divisor of 2"),
        ({"pp": 3}, "num_layers=4 is not divisible by parallel.pp=3"),
    ],
)
def test_a_layout_that_does_not_divide(
    hub: Path, capfd: pytest.CaptureFixture[str], options: dict[str, int], said: str
) -> None:
    assert convert("to-megatron", hf=hub, out=hub.parent / "out", **options) == 2
    assert said in reason(capfd)
    assert not (hub.parent / "out").exists()


def test_an_output_folder_that_is_not_empty(hub: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for command, options in (("to-megatron", {"hf": hub, "tp": 2}), ("to-hf", {"megatron": hub})):
        assert convert(command, out=hub, **options) == 2
        assert f"{hub}: exists and is not empty" in reason(capfd)


def test_folders_that_are_no_model(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert convert("to-megatron", hf=tmp_path / "none", out=tmp_path / "out") == 2
    assert f"{tmp_path / 'none'}: no such folder" in reason(capfd)
    assert convert("to-megatron", hf=tmp_path, out=tmp_path / "out") == 2
    assert f"{tmp_path}: no config.json; expected a Hugging Face model folder" in reason(capfd)


def test_an_unknown_architecture(hub: Path, capfd: pytest.CaptureFixture[str]) -> None:
    config = json.loads((hub / "config.json").read_text()) | {"architectures": ["MambaForCausalLM"]}
    (hub / "config.json").write_text(json.dumps(config))
    assert convert("to-megatron", hf=hub, out=hub.parent / "out") == 2
    assert "architectures=['MambaForCausalLM'] is not supported; known: LlamaForCausalLM," in reason(capfd)


def test_weights_that_are_cut_off(hub: Path, capfd: pytest.CaptureFixture[str]) -> None:
    weights = hub / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    assert convert("to-megatron", hf=hub, out=hub.parent / "out", tp=2) == 2
    assert f"{weights}: damaged or incomplete" in reason(capfd)


def test_weights_that_do_not_fit_the_config(hub: Path, capfd: pytest.CaptureFixture[str]) -> None:
    config = json.loads((hub / "config.json").read_text()) | {"num_hidden_layers": 5}
    (hub / "config.json").write_text(json.dumps(config))
    assert convert("to-megatron", hf=hub, out=hub.parent / "out") == 2
    assert "9 missing (model.layers.4.input_layernorm.weight," in reason(capfd)


def test_the_tool_refuses_to_overwrite(hub: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert make_tiny(["--family", "llama", "--out", str(hub)]) == 2
    assert "exists and is not empty" in reason(capfd)
