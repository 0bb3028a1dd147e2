from __future__ import annotations

from pathlib import Path

import pytest

from megatron_redone.common.errors import ConfigError
from megatron_redone.recipes.single_stage import load_stage


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    for name in ("corpus", "tokenizer"):
        (tmp_path / name).mkdir()
    return tmp_path


def test_inputs_of_the_file_are_relative_to_it_and_those_of_overrides_to_the_working_folder(
    inputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = inputs / "tokenize.yaml"
    settings.write_text("corpus: corpus\ntokenizer: nowhere\nseed: 7\n")
    elsewhere = inputs / "elsewhere"
    (elsewhere / "other").mkdir(parents=True)
    monkeypatch.chdir(elsewhere)
    recipe = load_stage("tokenize", settings, ["tokenizer=other"], Path("out/tokens"))
    (run,) = recipe.runs
    assert run.inputs == {"corpus": str(inputs / "corpus"), "tokenizer": str(elsewhere / "other")}
    assert (run.id, run.run_seed, recipe.config.output) == ("tokens", 7, elsewhere / "out")


def test_a_file_is_not_needed(inputs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(inputs)
    recipe = load_stage("tokenize", None, ["corpus=corpus", "tokenizer=tokenizer"], Path("tokens"))
    assert recipe.runs[0].inputs["corpus"] == str(inputs / "corpus")


@pytest.mark.parametrize(
    ("settings", "rule"),
    [
        (["corpus=corpus", "tokeniser=tokenizer"], "did you mean 'tokenizer'"),
        (["corpus=corpus"], "tokenizer"),
        (["corpus=corpse", "tokenizer=tokenizer"], r"corpus='.*corpse' is not there"),
        (["kind=sft", "corpus=corpus", "tokenizer=tokenizer"], "this command runs 'tokenize'"),
    ],
)
def test_wrong_settings_are_refused(
    inputs: Path, monkeypatch: pytest.MonkeyPatch, settings: list[str], rule: str
) -> None:
    monkeypatch.chdir(inputs)
    with pytest.raises(ConfigError, match=rule):
        load_stage("tokenize", None, settings, Path("tokens"))
