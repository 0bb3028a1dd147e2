"""What the dry run says of a recipe on a model folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from megatron_redone.common.errors import CheckpointError
from megatron_redone.models.families import shape_to_hf
from megatron_redone.models.presets import get_preset
from megatron_redone.parallel.config import ParallelConfig
from megatron_redone.recipes.graph import Recipe, load_recipe
from megatron_redone.recipes.plan import layout_problems, model_shape, print_plan, stage_bytes

RECIPE = """
name: plan
output: run
stages:
  before: {kind: evaluate, model: ./model}
  rows: {kind: rl_set, data: ./data}
  explore: {kind: dapo, model: before, rows: rows, parallel: {precision: bf16}}
"""


def recipe_on(folder: Path, config: object) -> Recipe:
    path = folder / "recipe.yaml"
    path.write_text(RECIPE, encoding="utf-8")
    if config is not None:
        (folder / "model").mkdir()
        (folder / "model" / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return load_recipe(path)


@pytest.mark.parametrize("preset", ["qwen2.5-7b", "qwen3-30b-a3b", "smollm2-135m"])
def test_stages_take_the_shape_of_the_model_folder(tmp_path: Path, preset: str) -> None:
    shape = get_preset(preset)
    recipe = recipe_on(tmp_path, shape_to_hf(shape, "bfloat16"))
    assert model_shape(recipe, "before") == model_shape(recipe, "explore") == shape


def test_layout_is_checked_against_the_model_folder(tmp_path: Path) -> None:
    recipe = recipe_on(tmp_path, shape_to_hf(get_preset("smollm2-135m"), "bfloat16"))
    assert layout_problems(recipe, 1) == []
    path = tmp_path / "recipe.yaml"
    (problem,) = layout_problems(load_recipe(path, ["explore.parallel.tp=2"]), 2)[:1]
    assert "num_heads=9 is not divisible by parallel.tp=2" in problem


def test_a_folder_that_is_not_there_yet_leaves_the_shape_open(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = recipe_on(tmp_path, None)
    assert model_shape(recipe, "explore") is None
    print_plan(recipe, 1)
    assert "folder" in capsys.readouterr().out


def test_an_unknown_architecture_is_refused(tmp_path: Path) -> None:
    recipe = recipe_on(tmp_path, {"architectures": ["GPT2LMHeadModel"]})
    with pytest.raises(CheckpointError, match=r"GPT2LMHeadModel.*is not supported; known: LlamaForCausalLM"):
        model_shape(recipe, "explore")


def test_a_stage_that_does_not_train_needs_its_weights_alone() -> None:
    shape = get_preset("smollm2-135m")
    bf16 = ParallelConfig(precision="bf16")
    assert stage_bytes(shape, bf16, trained=False) == 2 * shape.num_parameters()
    assert stage_bytes(shape, bf16) == 18 * shape.num_parameters()
