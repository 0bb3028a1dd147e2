"""From a recipe file to stage runs. The recipes here name stages; what a stage does is tested elsewhere."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from megatron_redone.common.errors import ConfigError
from megatron_redone.config.artefact import Artefact, OptionalArtefact
from megatron_redone.config.base import StrictModel
from megatron_redone.recipes.config import (
    STAGE_KINDS,
    DAPOStage,
    DiagnoseStage,
    PretrainStage,
    SFTStage,
    TargetSetStage,
)
from megatron_redone.recipes.graph import Recipe, StageRun, load_recipe
from megatron_redone.recipes.stage_config import RUN_KEYS, artefacts_of

ROOT = Path(__file__).resolve().parents[3]
TEXT = """\
name: part
output: run
seeds: [3, 5]
optimizer: {lr: 1.0e-3}
generation: {max_new_tokens: 7, max_prompt_tokens: 90}
overlong: {buffer_tokens: 2}
evaluate: {data: data}
stages:
  data: {kind: synthesize}
  base: {kind: evaluate, model: ./models/base}
  rows: {kind: rl_set, data: data}
  explore: {kind: dapo, per_seed: true, model: base, rows: rows, evaluate: null}
  diagnose: {kind: diagnose, per_seed: true, model: explore, data: data}
  set: {kind: sft_set, data: data}
  arm: {kind: sft, per_seed: true, model: base, conversations: set, match_compute_of: [explore, base]}
"""


def load(folder: Path, text: str = TEXT, *overrides: str) -> Recipe:
    path = folder / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    return load_recipe(path, overrides)


def problems(folder: Path, text: str, *overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load(folder, text, *overrides)
    return "\n".join(caught.value.problems)


def by_id(recipe: Recipe) -> dict[str, StageRun]:
    return {run.id: run for run in recipe.runs}


def test_stages_per_seed_run_once_a_seed_and_read_their_own(tmp_path: Path) -> None:
    runs = by_id(load(tmp_path))
    assert list(runs)[:3] == ["data", "base", "rows"]
    assert set(runs) == {
        "data", "base", "rows", "set", "explore.seed3", "explore.seed5", "diagnose.seed3", "diagnose.seed5",
        "arm.seed3", "arm.seed5",
    }  # fmt: skip
    assert runs["explore.seed5"].inputs == {"model": "base", "rows": "rows"}
    assert runs["diagnose.seed5"].inputs == {"model": "explore.seed5", "data": "data"}
    assert runs["arm.seed3"].inputs == {
        "model": "base", "conversations": "set", "match_compute_of.0": "explore.seed3", "match_compute_of.1": "base",
        "evaluate.data": "data",
    }  # fmt: skip
    assert [runs[name].run_seed for name in ("data", "explore.seed3", "explore.seed5")] == [0, 3, 5]


def test_paths_are_inputs_but_no_dependencies(tmp_path: Path) -> None:
    base = by_id(load(tmp_path))["base"]
    assert base.inputs == {"model": "./models/base", "evaluate.data": "data"}
    assert base.dependencies == ["data"]


@given(st.data())
def test_every_run_comes_after_what_it_reads(data: st.DataObject) -> None:
    """Graphs of sets and models that read any earlier stage of their kind; stages above are per seed or not."""
    stages: dict[str, dict[str, object]] = {"data": {"kind": "synthesize"}, "rows": {"kind": "rl_set", "data": "data"}}
    models = ["./base"]
    for number in range(data.draw(st.integers(1, 6))):
        name, model = f"model{number}", data.draw(st.sampled_from(models))
        per_seed = data.draw(st.booleans()) or bool(stages.get(model, {}).get("per_seed"))
        stages[name] = {"kind": "dapo", "model": model, "rows": "rows", "per_seed": per_seed}
        models.append(name)
    seeds = data.draw(st.lists(st.integers(0, 9), min_size=1, max_size=3, unique=True))
    path = ROOT / "recipe-that-is-not-read.yaml"
    recipe = {"name": "any", "output": "run", "seeds": seeds, "stages": stages}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("megatron_redone.recipes.recipe_file.load_yaml", lambda _: copy.deepcopy(recipe))
        runs = load_recipe(path).runs
    done: set[str] = set()
    for run in runs:
        assert done.issuperset(run.dependencies)
        done.add(run.id)
    assert len(done) == len(runs) == sum(len(seeds) if stage.get("per_seed") else 1 for stage in stages.values())


def test_top_level_sections_are_defaults_of_every_stage_that_has_them(tmp_path: Path) -> None:
    stages = load(tmp_path).stages
    explore, arm, diagnose = stages["explore"], stages["arm"], stages["diagnose"]
    assert isinstance(explore, DAPOStage) and isinstance(arm, SFTStage) and isinstance(diagnose, DiagnoseStage)
    assert explore.optimizer.lr == arm.optimizer.lr == 1e-3
    assert explore.optimizer.schedule == "constant"  # DAPO's own default, not that of an optimizer in general
    assert (explore.generation.max_new_tokens, explore.generation.temperature) == (7, 1.0)
    assert (diagnose.generation.max_new_tokens, diagnose.generation.temperature) == (7, 0.0)
    assert explore.evaluate is None and arm.evaluate is not None
    assert arm.evaluate.generation.temperature == 0.0


def test_overrides_reach_a_stage_a_section_or_the_recipe(tmp_path: Path) -> None:
    recipe = load(
        tmp_path,
        TEXT,
        "explore.optimizer.lr=2e-3",
        "optimizer.weight_decay=0.0",
        "seeds=[1]",
        "parallel.precision=bf16",
    )
    explore, arm = recipe.stages["explore"], recipe.stages["arm"]
    assert isinstance(explore, DAPOStage) and isinstance(arm, SFTStage)
    assert (explore.optimizer.lr, explore.optimizer.weight_decay) == (2e-3, 0.0)
    assert (arm.optimizer.lr, arm.optimizer.weight_decay) == (1e-3, 0.0)
    assert explore.parallel.precision == arm.parallel.precision == "bf16"
    assert recipe.config.seeds == (1,) and "arm.seed1" in by_id(recipe)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("per_seed: true, model: explore, data", "model: explore, data", "model='explore' runs once per seed; set"),
        ("seeds: [3, 5]", "seeds: [3, 3]", "seeds=[3, 3] has repeats; each seed once"),
        ("  set: {", "  a/b: {", "stage 'a/b': a name is made of letters, digits, - and _"),
        ("[explore, base]", "[explore], steps: 3", "match_compute_of=['explore']: leave out epochs and steps"),
        (", match_compute_of: [explore, base]", "", "epochs=None and steps=None: give exactly one of them"),
        ("optimizer: {lr: 1.0e-3}", "optimizer: {warmup_steps: 3}", "stage explore: "),
        ("model: ./models/base}", "model: base}", "stages read each other in a circle: base -> base; let one"),
        ("kind: rl_set,", "kind: rl_set, seed: 4,", "stage rows: seed=4: a stage has no seed of its own; set the"),
        ("kind: rl_set,", "kind: rl_set, max_refused_share: 0.1,", "stage rows: max_refused_share=0.1: holds for all"),
        ("kind: rl_set,", "", "stage rows: must be a section with a `kind`; known kinds: "),
    ],
)  # fmt: skip
def test_what_a_recipe_may_not_say(tmp_path: Path, old: str, new: str, expected: str) -> None:
    assert old in TEXT
    assert expected in problems(tmp_path, TEXT.replace(old, new))


def test_an_override_that_breaks_the_recipe_names_itself(tmp_path: Path) -> None:
    found = problems(tmp_path, TEXT, "explore.num_rollout=3", "explore.clip_ratio_low=-1")
    assert "stage explore: override 'stages.explore.num_rollout=3'" in found and "did you mean 'num_rollouts'?" in found
    assert "clip_ratio_low = -1: must be greater than 0" in found


@pytest.mark.parametrize("kind", STAGE_KINDS)
def test_no_stage_hides_a_key_of_the_recipe(kind: str) -> None:
    assert not set(STAGE_KINDS[kind].model_fields) & set(RUN_KEYS)


class Inner(StrictModel):
    source: Artefact
    note: str = ""


class Outer(StrictModel):
    model: Artefact
    start: OptionalArtefact = None
    parts: tuple[Artefact, ...] = ()
    names: tuple[str, ...] = ()
    inner: Inner | None = None


def test_artefacts_are_found_wherever_they_stand() -> None:
    assert list(artefacts_of(Outer(model="a", names=("x",)))) == [("model", "a")]
    full = Outer(model="a", start="b", parts=("c", "./d"), inner=Inner(source="e", note="f"))
    assert list(artefacts_of(full)) == [
        ("model", "a"), ("start", "b"), ("parts.0", "c"), ("parts.1", "./d"), ("inner.source", "e"),
    ]  # fmt: skip


def test_every_stage_declares_what_it_reads() -> None:
    pretrain = PretrainStage.model_validate(
        {"kind": "pretrain", "tokens": "t", "tokenizer": "v", "model": {"path": "./hub"}, "steps": 1}
    )
    assert dict(artefacts_of(pretrain)) == {"tokens": "t", "tokenizer": "v", "model.path": "./hub"}
    target = TargetSetStage(kind="target_set", model="m", data="d", diagnosis="x")
    assert dict(artefacts_of(target)) == {"model": "m", "data": "d", "diagnosis": "x"}


@pytest.mark.parametrize("path", sorted(ROOT.glob("examples/*/recipe.yaml")), ids=lambda path: path.parent.name)
def test_the_examples_are_valid_and_greedy_where_they_judge(path: Path) -> None:
    recipe = load_recipe(path)
    for stage in recipe.stages.values():
        if isinstance(stage, DiagnoseStage):
            assert stage.generation.temperature == 0.0
        evaluate = getattr(stage, "evaluate", None)
        assert evaluate is None or evaluate.generation.temperature == 0.0
