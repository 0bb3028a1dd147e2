from __future__ import annotations

from pathlib import Path

from megatron_redone.recipes.graph import load_recipe

EXAMPLE = Path(__file__).resolve().parents[4] / "examples" / "regmix" / "recipe.yaml"


def test_the_example_reads_each_step_from_the_one_before() -> None:
    runs = {run.name: run for run in load_recipe(EXAMPLE).runs}
    assert runs["proxies"].inputs["mixtures"] == "mixtures"
    assert runs["fit"].dependencies == ["proxies"]
    assert runs["comparison"].inputs["mixtures"] == "fit"
    assert runs["comparison"].inputs["domains.zh"] == "zh"
