"""What a user can get wrong, each once through the command line: exit code 2, and value, rule and remedy are said."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from megatron_redone.cli.main import main
from tests.integration.mini_recipe import (
    RECIPE,
    ROOT,
    artefact_hashes,
    copy_without,
    manifest,
    process_restored,
    run_here,
)

DRY_RUN_WITHOUT_TORCH = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"torch", "megatron", "transformers"}:
            raise ImportError(f"{name} is blocked")

sys.meta_path.insert(0, Blocked())
from megatron_redone.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture
def said(capfd: pytest.CaptureFixture[str]) -> Callable[[], str]:
    """What was written to stderr since the last call, in one line."""
    capfd.readouterr()
    return lambda: " ".join(capfd.readouterr().err.split())


def redone(*arguments: object) -> int:
    with process_restored():
        return main([str(argument) for argument in arguments])


def changed(folder: Path, *replacements: tuple[str, str]) -> Path:
    """The mini recipe with some text replaced."""
    text = RECIPE.read_text(encoding="utf-8")
    for old, new in replacements:
        assert old in text, old
        text = text.replace(old, new, 1)
    path = folder / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def only(folder: Path, **stages: dict[str, Any]) -> Path:
    """A recipe of a few stages."""
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump({"name": "part", "output": "run", "stages": stages}, sort_keys=False))
    return path


def test_every_problem_of_a_recipe_is_said_at_once(tmp_path: Path, said: Callable[[], str]) -> None:
    path = changed(
        tmp_path,
        ("name: mini\n", "name: mini\ngenaration: {}\n"),
        ("vocab_size: 1200", "vocab_siz: 1200"),
        ("    steps: 4\n", "    steps: four\n"),
        ("conversations: warmup_set\n", "conversations: warmup_sets\n"),
        ("{kind: diagnose, per_seed: true, model: explore", "{kind: diagnose, per_seed: true, model: refine"),
        ("{kind: baselines,", "{kind: baseline,"),
    )
    assert redone("run", path, "parallel.tp=0") == 2
    message = said()
    for expected in (
        "unknown key 'genaration'; did you mean 'generation'?",
        "stage tokenizer: ", "unknown key 'vocab_siz'; did you mean 'vocab_size'?", "vocab_size is missing",
        'steps = "four": must be a whole number',
        "stage warmup: conversations='warmup_sets' is no stage; did you mean 'warmup_set'?",
        "stages read each other in a circle: ", "diagnose -> refine", "target_set -> diagnose",
        "stage baselines: kind='baseline' is unknown; did you mean 'baselines'?",
    ):  # fmt: skip
        assert expected in message, expected
    assert f"{path}:" in message and "Traceback" not in message


def test_a_cycle_is_refused(tmp_path: Path, said: Callable[[], str]) -> None:
    sft = {"kind": "sft", "conversations": "set", "steps": 1}
    path = only(tmp_path, set={"kind": "sft_set", "data": "./rows"}, a=sft | {"model": "b"}, b=sft | {"model": "a"})
    assert redone("run", path) == 2
    assert "stages read each other in a circle: a -> b -> a; let one of them read something else" in said()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["parallel.tp=2"], "world size 1 is not divisible by parallel.tp * pp * cp = 2 * 1 * 1; start 2 processes"),
        (["--nproc", "3", "parallel.tp=3"], "stage warmup: num_heads=4 is not divisible by parallel.tp=3; choose"),
        (["pretrain.model.preset=qwen3-tinny"], "'qwen3-tinny' is not a known shape; did you mean 'qwen3-tiny'?"),
        (["comparison.after=refin"], "comparison names 'refin', which is no stage"),
        (["--from", "refin"], "'refin' is no stage; stages: data, tokenizer,"),
        (["explore.model=./nowhere"], "stage explore: model='./nowhere': "),
        (["stages=3"], "no stages; list them under `stages:`"),
        (["optimizer=3"], "optimizer = 3: must be a section"),
        (
            ["refine.optimizer=3"],
            "stage refine: override 'stages.refine.optimizer=3': optimizer = 3: must be a section",
        ),
        (["warmup_set=3"], "stage warmup_set: must be a section with a `kind`"),
    ],
)
def test_settings_that_do_not_fit(tmp_path: Path, said: Callable[[], str], arguments: list[str], expected: str) -> None:
    assert redone("run", RECIPE, f"output={tmp_path / 'run'}", *arguments) == 2
    assert expected in said()
    assert not (tmp_path / "run").exists()


def test_files_and_options_that_are_not_there(tmp_path: Path, said: Callable[[], str]) -> None:
    assert redone("run", tmp_path / "none.yaml") == 2
    assert f"{tmp_path / 'none.yaml'}: no such file; check the path" in said()
    assert redone("run", RECIPE, "--dry-runn") == 2
    assert "No such option: --dry-runn" in said()
    assert redone("report", tmp_path) == 2
    assert "run.json: no such file" in said()


def test_the_dry_run_needs_no_torch(tmp_path: Path) -> None:
    arguments = ["run", str(RECIPE), f"output={tmp_path / 'run'}", "--dry-run", "--nproc", "2", "parallel.tp=2"]
    result = subprocess.run(
        [sys.executable, "-c", DRY_RUN_WITHOUT_TORCH, *arguments],
        cwd=ROOT, capture_output=True, text=True, check=False, env=os.environ | {"COLUMNS": "160"},
    )  # fmt: skip
    assert (result.returncode, result.stderr) == (0, "")
    for expected in ("tp2 pp1 dp1 fp32", "2 x 128 = 256 tokens", "2 x 4 = 8 responses", "3 rollouts x 2", "0.3M", "iB"):
        assert expected in result.stdout, expected
    assert "explore x 1" in result.stdout and "matched compute" in result.stdout
    assert not (tmp_path / "run").exists()


@pytest.fixture
def rows(finished_run: Path, tmp_path: Path) -> Path:
    """A folder of rows made elsewhere, with one bad line and one bad row."""
    shutil.copytree(finished_run / "data", tmp_path / "rows")
    with (tmp_path / "rows" / "train.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"id": "cut", "task": "note_secu\n')
        file.write(json.dumps({"id": "x", "task": "note_securitty", "language": "en", "fields": {}, "answer": "spam"}))
    return tmp_path / "rows"


def test_bad_rows_are_refused_counted_and_listed(rows: Path, tmp_path: Path, said: Callable[[], str]) -> None:
    path = only(tmp_path, picked={"kind": "sft_set", "data": "./rows"})
    output = tmp_path / "run"
    assert redone("run", path, f"output={output}", "max_refused_share=0.06") == 0
    found = manifest(output, "picked")
    assert found["counts"]["rows_refused/train.jsonl"] == 2
    assert found["counts"]["conversations"] == 36 + 8
    first, second = found["refused_rows"]
    assert "train.jsonl:37: not JSON" in first
    assert "train.jsonl:38: " in second and "did you mean 'note_security'?" in second
    assert redone("run", path, f"output={output}", "max_refused_share=0.05", "--from", "picked") == 2
    message = said()
    assert "2 of 38 rows refused, but at most 5% may be" in message and "train.jsonl:37: not JSON" in message
    assert manifest(output, "picked") == found  # what stood before still stands


def test_a_model_folder_without_its_tokenizer(finished_run: Path, tmp_path: Path, said: Callable[[], str]) -> None:
    names = shutil.ignore_patterns("tokenizer*")
    shutil.copytree(finished_run / "warmup" / "model", tmp_path / "model", ignore=names)
    path = only(tmp_path, judged={"kind": "evaluate", "model": "./model"})
    assert redone("run", path, f"output={tmp_path / 'run'}") == 2
    message = said()
    assert f"{tmp_path / 'model'}: no tokenizer there; a model folder needs" in message.replace("/./", "/")
    assert "copy the files beside the weights" in message


def test_a_tokenizer_with_more_ids_than_the_model(finished_run: Path, tmp_path: Path, said: Callable[[], str]) -> None:
    output = copy_without(finished_run, tmp_path / "run", ["pretrain"])
    assert run_here(output, "--only", "pretrain", "pretrain.model.vocab_size=1000") == 2
    assert "the tokenizer has 1200 ids, the model 1000 embeddings; every id needs one" in said()


def test_too_long_prompts_are_left_out_and_counted(finished_run: Path, tmp_path: Path, said: Callable[[], str]) -> None:
    output = copy_without(finished_run, tmp_path / "run", ["explore.seed1", "refinement_set.seed1"])
    short = ["explore.generation.max_prompt_tokens=80", "explore.evaluate.generation.max_prompt_tokens=80"]
    quick = ["explore.num_rollouts=1", "explore.dynamic_sampling=false"]
    assert run_here(output, "--only", "explore", *short, *quick) == 0
    assert manifest(output, "explore.seed1")["counts"]["over_long_prompts"] > 0
    results = json.loads((output / "explore.seed1" / "evaluation" / "results.json").read_text())
    assert results["num_rows"] == 24 and 0 < results["settings"]["over_long_prompts"] < 24
    short = "refinement_set.generation.max_prompt_tokens=80"
    assert run_here(output, "--only", "refinement_set", short, "refinement_set.num_samples=2") == 0
    counts = manifest(output, "refinement_set.seed1")["counts"]
    assert counts["over_long_prompts"] > 0
    assert counts["measured_rows"] + counts["over_long_prompts"] == 36 + 8
    assert run_here(output, "--only", "explore", "explore.generation.max_prompt_tokens=10") == 2
    assert "prompts are longer than max_prompt_tokens=10, hardly any is not; raise the limit" in said()


def test_conversations_that_are_all_too_long(finished_run: Path, tmp_path: Path, said: Callable[[], str]) -> None:
    output = copy_without(finished_run, tmp_path / "run", ["warmup"])
    assert run_here(output, "--only", "warmup", "warmup.sequence_length=16") == 2
    assert "all 36 conversations are longer than sequence_length=16 tokens; raise it or set too_long" in said()
    assert run_here(output, "--only", "warmup", "warmup.sequence_length=100", "warmup.steps=1") == 0
    counts = manifest(output, "warmup")["counts"]
    assert counts["dropped_too_long"] > 0 and counts["packed"] + counts["dropped_too_long"] == 36


HOLD_LOCK = """
import fcntl, sys
file = open(sys.argv[1], "w")
fcntl.lockf(file, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


def test_a_folder_in_which_another_run_works(tmp_path: Path, said: Callable[[], str]) -> None:
    (tmp_path / "run").mkdir()
    other = subprocess.Popen(
        [sys.executable, "-c", HOLD_LOCK, str(tmp_path / "run" / ".lock")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert other.stdout is not None and other.stdout.readline() == b"held\n"
    assert run_here(tmp_path / "run") == 2
    other.communicate()
    assert f"{tmp_path / 'run'}: another run works in this folder; wait for it, stop it, or give another" in said()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, with room for data and tokens but not for a checkpoint."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1500k", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root may make a small file system to fill")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)  # weights may still be mapped


def test_a_full_disk_loses_nothing(small_disk: Path, finished_run: Path, said: Callable[[], str]) -> None:
    output = small_disk / "run"
    assert run_here(output, "--only", "data") == run_here(output, "--only", "tokenizer") == 0
    before = artefact_hashes(output)
    assert run_here(output, "pretrain.checkpoint.every=2") == 1
    message = said()
    assert "the disk is full" in message and "free space and run the same command again" in message
    assert "Traceback" not in message
    assert before.items() <= artefact_hashes(output).items() <= artefact_hashes(finished_run).items()
    subprocess.run(["mount", "-o", "remount,size=100m", str(small_disk)], check=True)
    assert run_here(output, "--only", "pretrain", "pretrain.checkpoint.every=2") == 0
    assert "going on" not in said()
