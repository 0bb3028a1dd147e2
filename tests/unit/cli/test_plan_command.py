"""`redone plan`: what it refuses, what it writes, and that a login node without torch can run it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from megatron_redone.cli.main import main

ROOT = Path(__file__).resolve().parents[3]
WITHOUT_TORCH = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"torch", "megatron", "transformers", "vllm", "numpy"}:
            raise ImportError(f"{name} is blocked")

sys.meta_path.insert(0, Blocked())
from megatron_redone.cli.main import main
raise SystemExit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize(
    "arguments",
    [["--model", "qwen3-4b", "--gpus", "16"], ["examples/redone/7b.yaml"], ["--help"]],
    ids=["model", "recipe", "help"],
)
def test_a_login_node_without_torch_can_plan(arguments: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, "plan", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "layout" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--model", "qwen3-9b"], "did you mean 'qwen3-8b'?"),
        (["--model", "qwen3-8b", "--gpu", "h900"], "did you mean 'h200'?"),
        (["--model", "qwen3-8b", "--gpus", "7", "--layout", "tp=2"], "world size 7 is not divisible by"),
        (["--model", "qwen3-8b", "--layout", "tp=0"], "parallel.tp=0 must be at least 1"),
        (["--model", "qwen3-8b", "--layout", "tq=2"], "unknown key 'tq'"),
        (["--model", "qwen3-8b", "--layout", "tp=16", "--gpus", "16"], "num_kv_heads=8 is not divisible"),
        (["--model", "qwen3-8b", "--precision", "fp16"], "--precision fp16: is none of bf16, fp32"),
        (["--model", "qwen3-8b", "--peak-tflops", "0"], "--peak-tflops 0: must be a finite number above 0"),
        (["--model", "qwen3-8b", "--imbalance", "inf"], "--imbalance inf: must be a finite number"),
        (
            ["--model", "qwen3-8b", "--seq", "64", "--document-length", "65"],
            "--document-length 65 is more than --seq 64",
        ),
        (["--model", "qwen3-8b", "tp=2"], "tp=2: a setting stands where the file of a recipe is expected"),
        (["nowhere.yaml"], "nowhere.yaml: no such file"),
        (["examples/redone2/8b.yaml", "--cluster-gpus", "6"], "stage target: world size 6 is not divisible by"),
        (["examples/redone2/8b.yaml", "--steps", "3"], "change a recipe by KEY=VALUE"),
        (["examples/redone2/8b.yaml", "cluster.gpu=h300"], "gpu h300: no such profile; did you mean 'h200'?"),
        (["examples/redone2/recipe.yaml"], "give its shape by --model"),
        ([], "neither a recipe nor --model"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_planned_is_told_with_its_rule(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    assert main(["plan", *arguments]) == 2
    assert told in capsys.readouterr().err


@pytest.mark.parametrize("option", [["--seq", "0"], ["--gpus", "0"], ["--batch", "0"], ["--labelled", "2"]])
def test_options_out_of_range_are_refused(option: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--model", "qwen3-8b", *option]) == 2
    assert option[0] in capsys.readouterr().err


def test_all_wrong_options_are_told_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--model", "qwen3-8b", "--precision", "int8", "--memory-gib", "0"]) == 2
    assert "2 problems" in capsys.readouterr().err


def test_a_recipe_that_does_not_fit_ends_with_one_and_says_why(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    recipe, out = ROOT / "examples/redone2/8b.yaml", tmp_path / "plan.json"
    assert main(["plan", str(recipe), "cluster.memory_gib=40", "--out", str(out)]) == 1
    shown = capsys.readouterr().out
    assert "does not fit: explore: training needs" in shown
    written = json.loads(out.read_text(encoding="utf-8"))
    assert any("explore" in problem for problem in written["problems"])
    (explore,) = [stage for stage in written["stages"] if stage["name"] == "explore"]
    assert explore["memory_bytes"]["training"] > 40 * 2**30
    assert sum(stage["gpu_hours"] or 0 for stage in written["stages"]) == pytest.approx(written["gpu_hours"])


def test_settings_of_a_recipe_change_its_plan(tmp_path: Path) -> None:
    recipe = str(ROOT / "examples/redone2/8b.yaml")
    hours = []
    for place, changed in enumerate((["expect.response_tokens=1500"], ["expect.response_tokens=750"])):
        out = tmp_path / f"{place}.json"
        assert main(["plan", recipe, *changed, "--out", str(out)]) == 0
        hours.append(json.loads(out.read_text(encoding="utf-8"))["gpu_hours"])
    assert hours[1] < 0.8 * hours[0]
