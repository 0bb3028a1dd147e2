"""Work of an interrupted run is continued by the same run only, and never thrown away for a change of settings."""

from __future__ import annotations

from pathlib import Path

import pytest

from megatron_redone.recipes.graph import load_recipe
from megatron_redone.recipes.workspace import Workspace

RECIPE = """
name: two
output: run
seed: 0
stages:
  data: {kind: synthesize, rows: {train: 4}, corpus_documents: 8}
  tokenizer: {kind: tokenizer, corpus: data, vocab_size: VOCABULARY}
"""


def workspace_of(folder: Path, vocabulary: int) -> Workspace:
    path = folder / "recipe.yaml"
    path.write_text(RECIPE.replace("VOCABULARY", str(vocabulary)))
    (folder / "run" / "data").mkdir(parents=True, exist_ok=True)
    return Workspace(load_recipe(path), folder / "run")


def opened(workspace: Workspace) -> Path:
    run = next(run for run in workspace.recipe.runs if run.id == "tokenizer")
    return workspace.open_work(run)[0]


def test_work_goes_on_under_the_same_settings(tmp_path: Path) -> None:
    (opened(workspace_of(tmp_path, 500)) / "part").write_text("done so far")
    assert (opened(workspace_of(tmp_path, 500)) / "part").read_text() == "done so far"


def test_checkpoints_of_other_settings_are_kept_aside_and_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("megatron_redone.recipes.workspace.LOG.propagate", True)
    before = opened(workspace_of(tmp_path, 500)) / "checkpoints"
    before.mkdir()
    (before / "latest.json").write_text("{}")
    folder = opened(workspace_of(tmp_path, 600))
    assert not (folder / "checkpoints").exists()
    assert (folder.with_name("tokenizer.before") / "checkpoints" / "latest.json").read_text() == "{}"
    assert "config.vocab_size was 500, now 600" in caplog.text
