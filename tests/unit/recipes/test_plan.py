from __future__ import annotations

from pathlib import Path

import pytest

from megatron_redone.models.presets import get_preset
from megatron_redone.recipes.graph import Recipe, load_recipe
from megatron_redone.recipes.plan import input_problems, layout_problems, model_shape
from tools.make_tiny_checkpoint import write_tiny_checkpoint

TEXT = """\
name: part
output: run
stages:
  words: {kind: tokenizer, corpus: ./corpus, vocab_size: 700}
  tokens: {kind: tokenize, corpus: ./corpus, tokenizer: words}
  start: {kind: pretrain, model: {preset: qwen3-tiny}, tokens: tokens, tokenizer: words, steps: 1}
  tuned: {kind: sft, model: start, conversations: ./chats, steps: 1}
  hub: {kind: evaluate, model: ./hub}
  more: {kind: pretrain, model: {path: hub}, tokens: tokens, tokenizer: ./words, steps: 1}
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    (tmp_path / "recipe.yaml").write_text(TEXT)
    return load_recipe(tmp_path / "recipe.yaml")


def test_paths_that_are_not_there_are_listed_each_once(recipe: Recipe, tmp_path: Path) -> None:
    for name in ("corpus", "words"):
        (tmp_path / name).mkdir()
    first, second = input_problems(recipe)
    assert first.startswith("stage tuned: conversations='./chats': ") and "relative to the recipe file" in first
    assert second.startswith(f"stage hub: model='./hub': {tmp_path / 'hub'} is not there")


def test_the_shape_is_followed_back_to_a_preset_or_a_folder(recipe: Recipe, tmp_path: Path) -> None:
    tiny = get_preset("qwen3-tiny").model_copy(update={"vocab_size": 700})
    assert model_shape(recipe, "start") == model_shape(recipe, "tuned") == tiny
    assert model_shape(recipe, "hub") is None and model_shape(recipe, "words") is None
    moe = get_preset("qwen3-moe-tiny")
    write_tiny_checkpoint(moe, tmp_path / "hub")
    found = model_shape(recipe, "more")
    assert found is not None and (found.family, found.num_experts) == ("qwen3_moe", moe.num_experts)


def test_all_layouts_that_do_not_fit_are_listed(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(TEXT + "parallel: {pp: 3}\n")
    recipe = load_recipe(tmp_path / "recipe.yaml")
    found = layout_problems(recipe, 3)
    assert [line.split(":")[0] for line in found] == ["stage start", "stage tuned"]
    assert "num_layers=4 is not divisible by parallel.pp=3; choose a divisor of 4" in found[0]
    (tmp_path / "hub").mkdir()
    assert "no config.json" in layout_problems(recipe, 3)[2]
