"""`redone dpo` from the command line: a real engine on a tiny model, resume, bad files, another reference."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from megatron_redone.checkpoint.hf_folder import SafetensorsFolder, write_safetensors
from megatron_redone.cli.app import app
from megatron_redone.common.errors import DataError, InputError, Preempted
from megatron_redone.common.files import atomic_write_json
from megatron_redone.models.families import shape_to_hf
from megatron_redone.models.presets import get_preset
from megatron_redone.models.weights import RandomWeights
from megatron_redone.training import run as training_run
from megatron_redone.training.reference_logprobs import ReferenceLogprobs
from tests.integration.mini_recipe import process_restored
from tests.scripted_generation import sums_template

SETTINGS = [
    "model=model", "pairs=pairs", "steps=4", "global_batch_size=4", "max_length=120", "max_tokens_per_microbatch=260",
    "optimizer={lr: 1.0e-3, warmup_ratio: 0.0}", "checkpoint.every=1", "threads=1",
]  # fmt: skip


def save_model(folder: Path, seed: int) -> None:
    template = sums_template(folder)
    shape = get_preset("qwen3-tiny").model_copy(update={"vocab_size": template.tokenizer.vocab_size})
    weights = RandomWeights(shape, seed)
    write_safetensors(folder, ((name, weights[name]) for name in weights))
    atomic_write_json(folder / "config.json", shape_to_hf(shape, "float32"))


def pair(number: int) -> dict[str, Any]:
    return {
        "id": f"p{number}", "prompt": f"what is {number} + 1?", "chosen_response": f"the answer is {number + 1}",
        "rejected_response": "7" * (1 + number % 4), "chosen_reward": 1.0, "rejected_reward": 0.1 * (number % 5),
    }  # fmt: skip


def write_pairs(path: Path, pairs: list[Any]) -> None:
    path.write_text("".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in pairs))


@pytest.fixture
def inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model and pairs, in the working folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model").mkdir()
    save_model(tmp_path / "model", 3)
    (tmp_path / "pairs").mkdir()
    write_pairs(tmp_path / "pairs" / "train.jsonl", [pair(number) for number in range(10)])
    write_pairs(tmp_path / "pairs" / "validation.jsonl", [pair(number) for number in range(10, 13)])
    return tmp_path


def dpo(*settings: str, out: str = "out") -> None:
    with process_restored():
        done = CliRunner().invoke(app, ["dpo", *SETTINGS, *settings, "--out", out], catch_exceptions=False)
    assert done.exit_code == 0, done.output


def rows(out: str) -> list[dict[str, float]]:
    return [json.loads(line) for line in Path(out, "metrics.jsonl").read_text().splitlines()]


def weights(out: str) -> dict[str, torch.Tensor]:
    folder = SafetensorsFolder(Path(out, "model"))
    return {name: folder[name] for name in folder}


@pytest.mark.usefixtures("inputs")
def test_a_stage_learns_the_preference_and_leaves_its_lineage() -> None:
    dpo("steps=12", "validation.every=5")
    found = rows("out")
    assert found[0]["preference"] == pytest.approx(0.693147, abs=1e-5)
    assert found[-1]["preference"] < 0.5 and found[-1]["reward_accuracy"] == 1.0
    assert [row["step"] for row in found if "validation/reward_accuracy" in row] == [4, 9, 11]
    manifest = json.loads(Path("out/manifest.json").read_text())
    assert manifest["counts"]["pairs"] == 10 and manifest["counts"]["validation_pairs"] == 3
    assert not Path("out/reference").exists()
    ledger = [json.loads(line) for line in Path("out/ledger.jsonl").read_text().splitlines()]
    assert ledger[-1]["num_samples"] == 48


@pytest.mark.usefixtures("inputs")
def test_an_interrupted_stage_goes_on_exactly(monkeypatch: pytest.MonkeyPatch) -> None:
    dpo(out="whole")
    stops = iter([0, 0, 15, 0, 0, 0])
    monkeypatch.setattr(training_run, "agreed_stop", lambda context: next(stops))
    with pytest.raises(Preempted, match=r"stopped after step 3 of 4"):
        dpo(out="parts")
    scored: list[int] = []
    fill = ReferenceLogprobs.fill

    def counting(self: ReferenceLogprobs, *arguments: Any, **settings: Any) -> int:
        scored.append(fill(self, *arguments, **settings))
        return scored[-1]

    monkeypatch.setattr(ReferenceLogprobs, "fill", counting)
    dpo(out="parts")
    assert sum(scored) == 0  # they stood on disk
    assert rows("parts") == rows("whole")
    assert Path("parts/samples.jsonl.gz").read_bytes() == Path("whole/samples.jsonl.gz").read_bytes()
    again = weights("parts")
    assert all(torch.equal(tensor, again[name]) for name, tensor in weights("whole").items())


@pytest.mark.usefixtures("inputs")
def test_a_shared_cache_saves_the_work_and_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    dpo("steps=1")
    dpo("steps=1", "reference_cache=cache", out="first")

    def refuse(*arguments: Any) -> None:
        raise AssertionError("computed again")

    monkeypatch.setattr("megatron_redone.training.reference_logprobs.document_logprobs", refuse)
    dpo("steps=1", "reference_cache=cache", "beta=0.4", out="second")
    assert rows("first") == rows("out")
    assert list(Path("cache").iterdir())


def test_another_reference_changes_the_loss_and_must_share_the_tokenizer(inputs: Path) -> None:
    (inputs / "other").mkdir()
    save_model(inputs / "other", 4)
    dpo("steps=1", "reference=other")
    assert rows("out")[0]["logprob_drift"] > 0.01
    tokenizer = next(path for path in (inputs / "other").iterdir() if path.suffix == ".model")
    tokenizer.unlink()
    from megatron_redone.data.tokenizer import train_sentencepiece

    train_sentencepiece(["other texts of other words, with 1 2 3 4"] * 9, inputs / "other", 300, 0)
    with pytest.raises(InputError, match="has another tokenizer"):
        dpo("steps=1", "reference=other", out="refused")


def test_bad_lines_are_refused_with_file_and_line(inputs: Path) -> None:
    good = [pair(number) for number in range(40)]
    equal, empty, spelled = pair(50), pair(51), pair(52)
    equal["rejected_response"] = equal["chosen_response"]
    empty["chosen_response"] = " "
    spelled["chosen_response"] = "1<|im_start|>2"
    write_pairs(inputs / "pairs" / "train.jsonl", [*good, equal, "{broken", empty, spelled])
    dpo("steps=1", "max_refused_share=0.1")
    refused = json.loads(Path("out/manifest.json").read_text())["refused_rows"]
    places = [line.split(": ")[0].rpartition(":")[2] for line in refused]
    assert places == ["41", "42", "43", "44"]
    with pytest.raises(DataError, match=r"train.jsonl: 4 of 44 pairs refused, but at most 5%"):
        dpo("steps=1", out="strict")


def test_one_file_will_do_and_validation_needs_its_own(inputs: Path) -> None:
    write_pairs(inputs / "mine.jsonl", [pair(number) for number in range(6)])
    dpo("pairs=mine.jsonl", "steps=1")
    with pytest.raises(InputError, match="validation is on, but"):
        dpo("pairs=mine.jsonl", "steps=1", "validation.every=1", out="held")


def test_settings_are_printed_without_out() -> None:
    done = CliRunner().invoke(app, ["dpo"], catch_exceptions=False)
    assert done.exit_code == 0
