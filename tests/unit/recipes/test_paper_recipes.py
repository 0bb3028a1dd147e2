"""The full-size recipes hold the papers' figures, and plan without data, weights or a GPU."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import yaml

from megatron_redone.cli.plan_recipe import plan_recipe
from megatron_redone.recipes.checks import problems_before_start
from megatron_redone.recipes.forecast import forecast_stage
from megatron_redone.recipes.graph import Recipe, load_recipe
from megatron_redone.recipes.plan import input_problems, model_shape, planned_gpus, print_plan
from megatron_redone.recipes.plan_page import recipe_markdown
from megatron_redone.recipes.stage_config import ModelStage, artefacts_of

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"
FULL = {
    "redone2/4b": "qwen3-4b", "redone2/8b": "qwen3-8b", "redone2/32b": "qwen3-32b", "redone2/30b_a3b": "qwen3-30b-a3b",
    "redone/7b": "qwen2.5-7b", "redone/32b": "qwen2.5-32b",
}  # fmt: skip

DAPO = {
    "num_rollouts": 500, "prompts_per_rollout": 1024, "responses_per_prompt": 16, "minibatch_prompts": 256,
    "generation.max_prompt_tokens": 10_000, "generation.max_new_tokens": 8_192, "overlong.buffer_tokens": 4_096,
    "overlong.factor": 1.0, "clip_ratio_low": 0.2, "clip_ratio_high": 0.28, "optimizer.lr": 5e-6,
    "optimizer.schedule": "constant", "optimizer.weight_decay": 0.1, "warmup_rollouts": 10, "kl.coefficient": 0.0,
    "normalisation": "token_mean", "dynamic_sampling": True, "generation.temperature": 1.0, "generation.top_p": 1.0,
    "optimizer.clip_grad": 1.0, "dual_clip": 10.0, "entropy_coefficient": 0.0, "updates_per_rollout": 4,
}  # fmt: skip
REDONE2 = {
    "explore_set": {"general_rows": 50_000},
    "explore": DAPO,
    "target_set": {"num_rows": 1_700_000, "general_share": 100_000 / 1_800_000, "soft_labels.num_candidates": 8},
    "target": {
        "epochs": 2, "global_batch_size": 64, "sequence_length": 16_384, "optimizer.lr": 5e-6,
        "optimizer.warmup_ratio": 0.1, "optimizer.schedule": "cosine",
    },
    "refinement_set": {"num_rows": 400_000, "rationale_share": 0.5718},
    "refine": DAPO,
}  # fmt: skip
SFT = {
    "sequence_length": 16_384, "global_batch_size": 128, "optimizer.beta1": 0.9, "optimizer.beta2": 0.95,
    "optimizer.epsilon": 1e-8, "optimizer.warmup_ratio": 0.1, "optimizer.schedule": "linear",
}  # fmt: skip
REDONE = {
    "interactions": {"forms": ("single_search", "consecutive_searches", "click_through"), "num_clicked": 3},
    "proxies": {"model.preset": "proxy-1m", "steps": 1_000, "global_batch_size": 512, "sequence_length": 2_048},
    "sft1": SFT | {"epochs": 3, "schedule_step": 1},
    "sft2": SFT | {"epochs": 2, "schedule_step": 2},
    "sft_sets": {"schedule": "redone", "sequence_length": 16_384},
    "dpo": {
        "optimizer.lr": 1e-7, "global_batch_size": 64, "max_length": 4_096, "epochs": 2, "sft.coefficient": 0.3,
    },
}  # fmt: skip
RATES = {"redone/7b": (5e-6, 3e-6), "redone/32b": (3e-6, 3e-6)}


def value_of(section: Any, dotted: str) -> Any:
    for part in dotted.split("."):
        section = getattr(section, part)
    return section


@pytest.fixture(scope="module", params=FULL)
def named(request: pytest.FixtureRequest) -> tuple[str, Recipe]:
    return request.param, load_recipe(EXAMPLES / f"{request.param}.yaml")


def test_every_figure_of_the_papers_stands_in_the_recipe(named: tuple[str, Recipe]) -> None:
    name, recipe = named
    for stage, figures in (REDONE2 if name.startswith("redone2") else REDONE).items():
        for key, figure in figures.items():
            assert value_of(recipe.stages[stage], key) == pytest.approx(figure), f"{stage}.{key}"
    if name in RATES:
        assert tuple(value_of(recipe.stages[stage], "optimizer.lr") for stage in ("sft1", "sft2")) == RATES[name]
        cpt = recipe.stages["cpt"]
        tokens = value_of(cpt, "steps") * value_of(cpt, "global_batch_size") * value_of(cpt, "sequence_length")
        assert tokens == pytest.approx(20e9, rel=1e-3)


def test_a_full_size_recipe_plans_with_nothing_there(
    named: tuple[str, Recipe], capsys: pytest.CaptureFixture[str]
) -> None:
    _, recipe = named
    gpus = planned_gpus(recipe, 1)
    assert gpus == 64
    assert problems_before_start(recipe, gpus, needs_inputs=False) == []
    print_plan(recipe, 1)
    shown = capsys.readouterr().out
    missing = input_problems(recipe)
    assert shown.count("will be needed: ") == len(missing) > 0
    assert "8 x 8 H200" in shown and "GPU-hours" in shown and "139" in shown


def test_the_layout_of_a_full_size_recipe_fits_model_batch_and_memory(named: tuple[str, Recipe]) -> None:
    _, recipe = named
    for stage, config in recipe.stages.items():
        if not isinstance(config, ModelStage) or (shape := model_shape(recipe, stage)) is None:
            continue
        assert shape.family in ("qwen3", "qwen3_moe", "qwen2_5")
        replicas = config.parallel.data_parallel_size(64)
        batch = getattr(config, "global_batch_size", getattr(config, "minibatch_prompts", replicas))
        assert batch % replicas == 0, f"{stage}: batch {batch} over {replicas} replicas"
        assert recipe.config.cluster is not None
        assert forecast_stage(recipe, stage, shape, 64, recipe.config.cluster.accelerator()).problems == [], stage


def test_the_plan_beside_a_full_size_recipe_is_what_the_command_prints(named: tuple[str, Recipe]) -> None:
    name, _ = named
    recipe, page = f"examples/{name}.yaml", f"examples/{name}.plan.md"
    command = f"redone plan {recipe} --out {page}"
    text = recipe_markdown(plan_recipe(EXAMPLES.parent / recipe), command)
    assert (EXAMPLES.parent / page).read_text(encoding="utf-8") == text, f"stale: run `{command}`"


@pytest.mark.parametrize("name", FULL)
def test_the_model_of_a_folder_that_is_not_there_is_told_by_its_name(name: str) -> None:
    from megatron_redone.models.presets import get_preset

    recipe = load_recipe(EXAMPLES / f"{name}.yaml")
    assert model_shape(recipe, "base") == get_preset(FULL[name])


def main_line(recipe: Recipe) -> dict[str, tuple[str, dict[str, str]]]:
    """Stage -> kind and what it reads of the stages of the paper, with data and start of training left out."""
    names = [*REDONE2, "diagnose"]
    return {
        name: (
            recipe.stages[name].kind,
            {field: reference for field, reference in artefacts_of(recipe.stages[name]) if reference in names},
        )
        for name in names
    }


@pytest.mark.parametrize("name", ["quickstart/recipe", "redone2/small", "redone2/8b"])
def test_quickstart_and_small_are_the_redone2_recipe_with_other_sizes(name: str) -> None:
    assert main_line(load_recipe(EXAMPLES / f"{name}.yaml")) == main_line(load_recipe(EXAMPLES / "redone2/recipe.yaml"))


def test_redone_in_small_has_the_stages_of_the_full_recipe(tmp_path: Path) -> None:
    small, full = (load_recipe(EXAMPLES / f"redone/{name}.yaml") for name in ("small", "7b"))
    left_out = {"agreement"}
    assert set(full.stages) - set(small.stages) == left_out
    assert set(small.stages) - set(full.stages) == {"data", "logs", "baselines", "words", "base_tokens"}
    for name in set(full.stages) - left_out - {"base"}:
        assert small.stages[name].kind == full.stages[name].kind


RECIPES = [
    path for path in sorted(EXAMPLES.glob("*/*.yaml")) if {"stages", "extends"} & set(yaml.safe_load(path.read_text()))
]


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_example_passes_the_checks_of_a_dry_run(path: Path) -> None:
    """On the cluster that it states, or on as many processes as its layouts need."""
    recipe = load_recipe(path)
    layouts = [stage.parallel for stage in recipe.stages.values() if isinstance(stage, ModelStage)]
    needed = math.lcm(*(layout.tp * layout.pp * layout.cp for layout in layouts))
    gpus = needed if recipe.config.cluster is None else planned_gpus(recipe, 1)
    assert problems_before_start(recipe, gpus, needs_inputs=False) == []
