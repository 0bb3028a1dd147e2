"""`redone nemo export` on tiny models, read back by NeMo-Aligner's and NeMo's own classes where they are installed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from megatron_redone.checkpoint.torch_dist import TorchDistFolder
from megatron_redone.cli.app import app
from megatron_redone.common.errors import ConfigError, InputError, TrainingError
from tests.integration.mini_recipe import process_restored
from tests.tiny_models import write_model

PAIRS = 8
SETTINGS = [
    "model=model", "pairs=pairs.jsonl", "steps=3", "global_batch_size=4", "max_length=64", "sft.normalisation=pair_sum",
    "max_tokens_per_microbatch=260",
]  # fmt: skip


def write_inputs(folder: Path, family: str) -> None:
    write_model(folder / "model", family)
    lines = [
        {
            "id": f"p{number}",
            "prompt": f"what is the answer {number}?",
            "chosen_response": f"the answer is 小{number} wool",
            "rejected_response": "dry sea" + " sock" * (number % 3),
        }
        for number in range(PAIRS)
    ]
    (folder / "pairs.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def export(*settings: str, check: bool = False, gpus: int = 2) -> str:
    arguments = ["nemo", "export", *SETTINGS, *settings, "--out", "out", "--image", "nemo:1"]
    arguments += ["--gpus-per-node", str(gpus), *(["--check"] if check else [])]
    with process_restored():
        done = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def test_a_folder_with_all_that_the_program_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_inputs(tmp_path, "qwen2.5")
    output = export("parallel={pp: 2, precision: bf16}")
    assert "pairs: 8" in output
    names = {str(path.relative_to("out")) for path in Path("out").rglob("*") if path.is_file()}
    assert names >= {
        "gpt_dpo.yaml", "train.sh", "submit.sbatch", "export.json", "data/train.jsonl", "tokenizer/tokenizer.json",
        "checkpoint/model_config.yaml", "checkpoint/model_weights/metadata.json",
        "checkpoint/model_weights/common.pt", "checkpoint/model_weights/.metadata",
    }  # fmt: skip
    parts = TorchDistFolder(Path("out/checkpoint/model_weights")).parts
    model = yaml.safe_load(Path("out/checkpoint/model_config.yaml").read_text(encoding="utf-8"))
    layers, width = model["num_layers"], model["hidden_size"]
    first = parts["model.decoder.layers.self_attention.linear_qkv.layer_norm_weight"][0]
    assert first.global_shape == (layers, width) and first.dtype == "bfloat16"
    assert "model.decoder.layers.self_attention.linear_qkv.bias" in parts and model["qkv_bias"]
    assert len({part.file for some in parts.values() for part in some}) == 2  # cut for pp=2
    record = json.loads(Path("out/export.json").read_text(encoding="utf-8"))
    assert set(record["files"]) == names - {"export.json"}
    assert json.loads(Path("out/tokenizer/tokenizer_config.json").read_text())["eos_token"] == "<|im_end|>"


def test_what_cannot_be_exported_is_told_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_inputs(tmp_path, "qwen3")
    with pytest.raises(ConfigError) as caught:
        export("optimizer.guard.on_bad_step=stop", "checkpoint.keep_every=10", gpus=3)
    for told in (
        "no norm on queries",
        "optimizer.guard.on_bad_step='stop'",
        "checkpoint.keep_every=10",
        "replicas = 3",
    ):
        assert told in str(caught.value)
    assert not Path("out").exists()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "kept").touch()
    with pytest.raises(InputError, match=r"exists and is not empty"):
        export()


def test_pairs_that_its_tokenizer_reads_otherwise_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A prompt cut within a character, and so within a token, is another text."""
    monkeypatch.chdir(tmp_path)
    write_inputs(tmp_path, "llama")
    lines = [json.loads(line) for line in Path("pairs.jsonl").read_text(encoding="utf-8").splitlines()]
    lines[3]["prompt"] = "数" * 40
    Path("pairs.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    cut = [f"max_length={size}" for size in (62, 63, 64)]  # one of them falls within a character
    left_out = []
    for number, length in enumerate(cut):
        output = export("too_long=truncate_prompt", length)
        left_out.append("pairs_left_out_merged_tokens: 1" in output)
        Path("out").rename(f"out{number}")
    assert True in left_out
    number = left_out.index(True)
    written = [json.loads(line)["id"] for line in Path(f"out{number}/data/train.jsonl").read_text().splitlines()]
    assert written == [f"p{place}" for place in range(PAIRS) if place != 3]


@pytest.mark.parametrize(("family", "more"), [("llama", []), ("qwen2.5", ["parallel.precision=bf16"])])
def test_its_own_classes_read_what_we_wrote(
    family: str, more: list[str], nemo_aligner_python: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_inputs(tmp_path, family)
    output = export(*more, f"nemo_aligner.python={nemo_aligner_python}", check=True)
    assert f"{PAIRS} pairs read as the same tokens" in output and "of 16 answers" in output


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["rotary_base", "eos_token", "missing key"])
def test_a_planted_fault_is_found(
    fault: str, nemo_aligner_python: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from megatron_redone.nemo_aligner import export as files, model_config

    monkeypatch.chdir(tmp_path)
    write_inputs(tmp_path, "llama")
    if fault == "rotary_base":
        right = model_config.model_config
        monkeypatch.setattr(files, "model_config", lambda *args: {**right(*args), "rotary_base": 77.0})
        told = r"log-probabilities that differ by"
    elif fault == "eos_token":
        wrong = files.write_tokenizer

        def other_end(tokenizer: object, template: object, folder: Path) -> None:
            wrong(tokenizer, template, folder)  # type: ignore[arg-type]
            path = folder / "tokenizer_config.json"
            path.write_text(path.read_text().replace('"eos_token": "<|im_end|>"', '"eos_token": "<|endoftext|>"'))

        monkeypatch.setattr(files, "write_tokenizer", other_end)
        told = r"pair p0: NeMo-Aligner's data set reads another chosen_labels"
    else:
        monkeypatch.setattr(files, "PREFIX", "model.module.")
        told = r"CheckpointingException: Some keys found in the checkpoint are missing"
    with pytest.raises(TrainingError, match=told):
        export(f"nemo_aligner.python={nemo_aligner_python}", check=True)
