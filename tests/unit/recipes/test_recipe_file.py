"""Recipes that extend each other, and graphs in any order."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import yaml
from hypothesis import given, strategies as st

from megatron_redone.common.errors import ConfigError
from megatron_redone.recipes.config import SFTStage
from megatron_redone.recipes.graph import load_recipe
from megatron_redone.recipes.recipe_file import read_recipe_file

BASE = """\
name: base
output: runs/base
generation: {max_new_tokens: 7, max_prompt_tokens: 90}
stages:
  data: {kind: synthesize, tasks: [note_security, query_intent]}
  set: {kind: sft_set, data: data}
  start: {kind: evaluate, model: ./models/base}
  tuned: {kind: sft, model: start, conversations: set, epochs: 2, optimizer: {lr: 1.0e-3, beta1: 0.8}}
"""


def write(folder: Path, **texts: str) -> Path:
    """Files NAME.yaml; the path of the last one."""
    for name, text in texts.items():
        (folder / f"{name}.yaml").write_text(text, encoding="utf-8")
    return folder / f"{list(texts)[-1]}.yaml"


def test_sections_are_merged_lists_replaced_and_null_stages_taken_out(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        base=BASE,
        middle="extends: base.yaml\nname: middle\nstages:\n  tuned: {optimizer: {lr: 2.0e-3}}\n",
        top="""\
extends: middle.yaml
generation: {max_new_tokens: 9}
stages:
  data: {tasks: [query_intent]}
  more: {kind: sft, model: tuned, conversations: set, steps: 3}
  tuned: {epochs: null, steps: 5}
  baselines: null
""",
    )
    recipe = load_recipe(path)
    assert recipe.config.name == "middle" and list(recipe.stages) == ["data", "set", "start", "tuned", "more"]
    tuned = recipe.stages["tuned"]
    assert isinstance(tuned, SFTStage)
    assert (tuned.optimizer.lr, tuned.optimizer.beta1, tuned.epochs, tuned.steps) == (2e-3, 0.8, None, 5)
    assert recipe.config.generation == {"max_new_tokens": 9, "max_prompt_tokens": 90}
    assert read_recipe_file(path)["stages"]["data"]["tasks"] == ["query_intent"]


def test_a_stage_of_another_kind_replaces_the_one_below_whole_and_keeps_its_place(tmp_path: Path) -> None:
    top = "extends: base.yaml\nstages: {start: {kind: sft, model: ./m, conversations: ./c, steps: 1}}\n"
    recipe = load_recipe(write(tmp_path, base=BASE, top=top))
    assert recipe.stages["start"].kind == "sft" and list(recipe.stages)[2] == "start"


def test_an_override_takes_a_stage_out_and_its_readers_say_so(tmp_path: Path) -> None:
    path = write(tmp_path, base=BASE)
    assert "tuned" not in load_recipe(path, ["tuned=null"]).stages
    with pytest.raises(ConfigError, match="stage tuned: conversations='set' is no stage"):
        load_recipe(path, ["set=null"])


def test_errors_name_the_file_and_line_that_wrote_the_value(tmp_path: Path) -> None:
    path = write(tmp_path, base=BASE, top="extends: base.yaml\nstages:\n  tuned: {epochs: many}\n")
    with pytest.raises(ConfigError, match=r"top\.yaml:3: epochs"):
        load_recipe(path)
    path = write(tmp_path, base=BASE.replace("epochs: 2", "epochs: two"), top="extends: base.yaml\n")
    with pytest.raises(ConfigError, match=r"base\.yaml:8: epochs"):
        load_recipe(path)


def test_files_that_extend_each_other_or_nothing_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path, one="extends: two.yaml\n", two="extends: one.yaml\n")
    with pytest.raises(ConfigError, match=r"files extend each other: .*two\.yaml -> .*one\.yaml -> .*two\.yaml"):
        load_recipe(path)
    with pytest.raises(ConfigError, match=r"none\.yaml: no such file"):
        load_recipe(write(tmp_path, top="extends: none.yaml\n"))
    with pytest.raises(ConfigError, match=r"extends=3 must be the name of one file"):
        load_recipe(write(tmp_path, top="extends: 3\n"))


@given(st.integers(0, 10_000))
def test_any_order_of_stages_is_sorted_by_what_is_read(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    draw = random.Random(seed)
    stages: dict[str, dict[str, object]] = {"m0": {"kind": "evaluate", "model": "./base"}}
    for number in range(1, 7):
        stages[f"m{number}"] = {
            "kind": "sft", "model": f"m{draw.randrange(number)}", "conversations": "./set", "steps": 1,
        }  # fmt: skip
    names = list(stages)
    draw.shuffle(names)
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    recipe = {"name": "a", "output": "r", "stages": {name: stages[name] for name in names}}
    path.write_text(yaml.safe_dump(recipe, sort_keys=False))
    ordered = list(load_recipe(path).stages)
    assert sorted(ordered) == sorted(names)
    for name in names:
        reads = stages[name]["model"]
        assert reads == "./base" or ordered.index(str(reads)) < ordered.index(name)


def test_a_circle_is_told_with_its_way_and_each_circle_once(tmp_path: Path) -> None:
    sft = {"kind": "sft", "conversations": "./set", "steps": 1}
    reads = {"a": "c", "b": "a", "c": "b", "behind": "c", "x": "y", "y": "x", "fine": "./m"}
    stages = {name: sft | {"model": model} for name, model in reads.items()}
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump({"name": "a", "output": "r", "stages": stages}, sort_keys=False))
    with pytest.raises(ConfigError) as caught:
        load_recipe(path)
    assert [problem.partition(";")[0] for problem in caught.value.problems] == [
        "stages read each other in a circle: a -> c -> b -> a",
        "stages read each other in a circle: x -> y -> x",
    ]


def test_names_that_differ_in_capitals_would_share_a_folder(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="stages 'data' and 'Data' differ in capitals only"):
        load_recipe(write(tmp_path, base=BASE.replace("  set:", "  Data: {kind: synthesize}\n  set:")))
