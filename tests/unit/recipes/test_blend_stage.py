"""A blend as a stage reads it: what is refused before anything runs, and what a resume may change."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from megatron_redone.common.errors import ConfigError
from megatron_redone.recipes.graph import Recipe, load_recipe
from megatron_redone.recipes.plan import input_problems
from megatron_redone.recipes.workspace import Workspace

PHASE = {"weights": {"notes": 0.75, "web": 0.25}}


def recipe_of(folder: Path, **changes: Any) -> Recipe:
    stage: dict[str, Any] = {
        "kind": "pretrain", "model": {"preset": "qwen3-tiny"}, "tokenizer": "./words", "steps": 9,
        "blend": {"corpora": {"notes": "./notes", "web": "./web"}, "phases": [PHASE]},
    }  # fmt: skip
    stage["blend"] |= changes.pop("blend", {})
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump({"name": "r", "output": "run", "stages": {"start": stage | changes}}))
    return load_recipe(path)


def test_every_corpus_and_file_of_weights_is_an_input(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, blend={"phases": [PHASE, {"from_sample": 40, "weights_from": "./mix/blend.yaml"}]})
    assert recipe.runs[0].inputs == {
        "tokenizer": "./words", "blend.corpora.notes": "./notes", "blend.corpora.web": "./web",
        "blend.phases.1.weights_from": "./mix/blend.yaml",
    }  # fmt: skip
    assert len(input_problems(recipe)) == 4


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"tokens": "./notes"}, "give exactly one of them"),
        ({"blend": {"phases": [{"weights": {"nots": 1.0}}]}}, r"weights name \['nots'\], but corpora are"),
        ({"blend": {"phases": [PHASE | {"from_sample": 3}]}}, "the first begins at 0"),
        ({"blend": {"phases": [PHASE, PHASE]}}, "each later one after the one before"),
        ({"blend": {"phases": [{"weights": {"notes": -1.0}}]}}, "none may be below 0"),
        ({"blend": {"phases": [{"weights": {"notes": 0.0}}]}}, "one must be above"),
        ({"blend": {"phases": [PHASE | {"weights_from": "./m"}]}}, "give exactly one of them"),
        ({"steps": None, "epochs": 2.0}, "give `steps`"),
        ({"blend": {"corpora": {}}}, "corpora"),
    ],
)
def test_wrong_blends_are_refused(tmp_path: Path, changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        recipe_of(tmp_path, **changes)


def test_work_goes_on_under_another_blend_and_nothing_else(tmp_path: Path) -> None:
    for name in ("words", "notes", "web", "code"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)

    def opened(**changes: Any) -> tuple[Path, Any]:
        workspace = Workspace(recipe_of(tmp_path, **changes), tmp_path / "run")
        return workspace.open_work(workspace.recipe.runs[0])

    folder, first = opened()
    (folder / "part").write_text("done so far")
    later = {"corpora": {"notes": "./notes", "web": "./web", "code": "./code"}}
    later |= {"phases": [PHASE, {"from_sample": 40, "weights": {"code": 1.0}}]}  # type: ignore[dict-item]
    assert (opened(blend=later)[0] / "part").is_file()
    assert opened(blend=later)[1] != first  # a finished run of the old blend is not taken for one of the new
    assert not (opened(blend=later, sequence_length=64)[0] / "part").exists()
