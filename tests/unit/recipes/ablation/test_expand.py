"""Arms of one recipe as one graph: what is shared is one stage, what differs is another, and bad files are refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st

from megatron_redone.common.errors import ConfigError
from megatron_redone.recipes.ablation.arms import ArmStages, identities, stage_references
from megatron_redone.recipes.ablation.expand import Ablation, load_ablation

ROOT = Path(__file__).resolve().parents[4]
RECIPE = """\
name: part
output: run
evaluate: {data: data}
generation: {max_new_tokens: 7, max_prompt_tokens: 90}
overlong: {buffer_tokens: 2}
stages:
  data: {kind: synthesize}
  base: {kind: evaluate, model: ./models/base}
  rows: {kind: rl_set, data: data}
  explore: {kind: dapo, per_seed: true, model: base, rows: rows}
  diagnose: {kind: diagnose, per_seed: true, model: explore, data: data}
  target_set: {kind: target_set, per_seed: true, model: explore, data: data, diagnosis: diagnose}
  target: {kind: sft, per_seed: true, model: explore, conversations: target_set, epochs: 1}
  refine: {kind: dapo, per_seed: true, model: target, rows: rows}
  set: {kind: sft_set, data: data}
  sft_only: {kind: sft, per_seed: true, model: base, conversations: set, match_compute_of: [explore, refine]}
"""
HEAD = """\
name: arms
output: runs/arms
recipe: recipe.yaml
seeds: [3, 5]
baseline: base
"""
TABLE_3 = """\
arms:
  base: {result: base}
  sft: {title: SFT, remove: [explore], result: target}
  sft_rl: {remove: [explore], result: refine}
  rl: {result: explore}
  rl_sft: {result: target}
  rl_sft_rl: {result: refine}
  sft_equal: {result: sft_only}
"""


def load(folder: Path, arms: str = TABLE_3, *overrides: str, head: str = HEAD) -> Ablation:
    (folder / "recipe.yaml").write_text(RECIPE, encoding="utf-8")
    path = folder / "ablation.yaml"
    path.write_text(head + arms, encoding="utf-8")
    return load_ablation(path, overrides)


def problems(folder: Path, arms: str, head: str = HEAD) -> str:
    with pytest.raises(ConfigError) as caught:
        load(folder, arms, head=head)
    return "\n".join(caught.value.problems)


def whole(ablation: Ablation) -> ArmStages:
    """The expanded recipe, as one arm that has all its stages."""
    return ArmStages({}, dict(ablation.recipe.stages), {})


def test_table_3_has_each_stage_once(tmp_path: Path) -> None:
    ablation = load(tmp_path)
    stages = ablation.recipe.stages
    assert {arm.name: next(iter(arm.results.values())) for arm in ablation.arms} == {
        "base": "base", "sft": "target-sft", "sft_rl": "refine-sft_rl", "rl": "explore", "rl_sft": "target",
        "rl_sft_rl": "refine", "sft_equal": "sft_only",
    }  # fmt: skip
    assert set(ablation.arm("sft").stages) < set(ablation.arm("sft_rl").stages)
    assert set(ablation.arm("rl").stages) < set(ablation.arm("rl_sft").stages) < set(ablation.arm("rl_sft_rl").stages)
    reads = {name: [read for _, read in stage_references(stage)] for name, stage in stages.items()}
    assert reads["diagnose-sft"] == ["base", "data"], "what read the removed stage's model reads where it started"
    assert reads["refine-sft_rl"] == ["data", "target-sft", "rows"], "the arm's own stages, not the recipe's"
    assert len(stages) == len(set(identities(whole(ablation)).values())) == 14
    assert ablation.recipe.config.comparison is not None and ablation.recipe.config.comparison.before == "base"


def test_a_model_that_is_not_changed_keeps_its_folder_and_its_settings(tmp_path: Path) -> None:
    ablation = load(tmp_path)
    assert ablation.recipe.stages["explore"].per_seed
    assert [run.id for run in ablation.runs_of(["rl"])] == ["data", "base", "rows", "explore.seed3", "explore.seed5"]
    assert {run.id for run in ablation.runs_of([])} == {run.id for run in ablation.recipe.runs}
    assert ablation.recipe.path == tmp_path / "recipe.yaml", "paths of stages are relative to the recipe"


@settings(max_examples=6)
@given(st.data())
def test_every_arm_gets_the_same_stages_alone_and_among_others(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """What decides an arm's result does not depend on which other arms stand beside it, nor on their order."""
    lines = TABLE_3.splitlines()[1:]
    chosen = data.draw(st.permutations(lines).map(lambda order: order[: 2 + len(order) // 3]))
    folder = tmp_path_factory.mktemp("arms")
    head = HEAD.replace("baseline: base", f"baseline: {chosen[0].split(':')[0].strip()}")
    alone, among = load(folder), load(folder, "\n".join(["arms:", *chosen, ""]), head=head)
    identity = {name: identities(whole(one)) for name, one in (("all", alone), ("some", among))}
    for arm in among.arms:
        (here,), (there,) = arm.results.values(), alone.arm(arm.name).results.values()
        assert identity["some"][here] == identity["all"][there]
        assert sorted(identity["some"][stage] for stage in arm.stages) == sorted(
            identity["all"][stage] for stage in alone.arm(arm.name).stages
        )


def test_an_arm_may_change_add_and_rewire(tmp_path: Path) -> None:
    arms = """\
arms:
  base: {result: base}
  slow: {change: {explore: {optimizer: {lr: 1.0e-7}}}, result: refine}
  other_data:
    add: {more: {kind: synthesize, tasks: [query_intent]}}
    change: {rows: {data: more}}
    result: explore
"""
    stages = load(tmp_path, arms).recipe.stages
    assert stages["explore-slow"].optimizer.lr == 1e-7  # type: ignore[attr-defined]
    assert stages["refine-slow"].model == "target-slow"  # type: ignore[attr-defined]
    assert stages["rows-other_data"].data == "more"  # type: ignore[attr-defined]
    assert stages["explore-other_data"].rows == "rows-other_data"  # type: ignore[attr-defined]
    assert "rows" in stages and stages["rows"].data == "data"  # type: ignore[attr-defined]


def test_a_held_out_set_is_answered_by_every_arm(tmp_path: Path) -> None:
    arms = (
        "held_out: {far: {data: ./far, split: test}, near: {data: data, split: diagnosis}}\n"
        "arms: {base: {result: base}, rl: {result: explore}, again: {title: the same, result: explore}}\n"
    )
    ablation = load(tmp_path, arms)
    assert ablation.arm("rl").results == {"far": "scores-far-rl", "near": "scores-near-rl"}
    assert ablation.arm("again").results == ablation.arm("rl").results, "one model is scored once"
    scored = ablation.recipe.stages["scores-near-rl"]
    assert scored.per_seed and scored.evaluate.split == "diagnosis"  # type: ignore[attr-defined]
    assert ablation.recipe.stages["scores-far"].model == "base"  # type: ignore[attr-defined]


def test_a_data_set_that_differs_is_read_by_the_evaluation_too(tmp_path: Path) -> None:
    """`evaluate.data` stands among the recipe's defaults and not in the stage."""
    arms = "arms: {base: {result: base}, few: {change: {data: {general_rows: 8}}, result: explore}}\n"
    explore = load(tmp_path, arms).recipe.stages["explore-few"]
    assert explore.evaluate.data == "data-few"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("arm", "told"),
    [
        ("{result: refined}", "result: 'refined' is no stage; did you mean 'refine'?"),
        ("{remove: [target], result: target}", "result: 'target' is removed"),
        ("{remove: [explor], result: refine}", "remove: 'explor' is no stage; did you mean 'explore'?"),
        ("{change: {refin: {num_rollouts: 1}}, result: refine}", "change: 'refin' is no stage; did you mean 'refine'?"),
        ("{add: {rows: {kind: rl_set, data: data}}, result: refine}", "add: 'rows' is a stage of the recipe"),
        ("{remove: [rows], result: explore}", "stage explore: rows: 'rows' is removed"),
        ("{change: {explore: {model: target}}, result: refine}", "in a circle: target -> explore -> target"),
        ("{change: {explore: {num_rollout: 1}}, result: explore}", "unknown key 'num_rollout'"),
        ("{change: {explore: {evaluate: null}}, result: explore}", "result explore: it answers no held-out rows"),
        ("{change: {rows: {data: dat}}, result: explore}", "data: 'dat' is no stage; did you mean 'data'?"),
    ],
)
def test_a_broken_arm_is_refused_by_name(tmp_path: Path, arm: str, told: str) -> None:
    found = problems(tmp_path, f"arms: {{base: {{result: base}}, broken: {arm}}}\n")
    assert "arm broken: " in found and told in found


def test_all_broken_arms_are_told_at_once(tmp_path: Path) -> None:
    found = problems(tmp_path, "arms: {base: {result: bas}, one: {remove: [x], result: base}, two: {result: y}}\n")
    assert [f"arm {arm}: " in found for arm in ("base", "one", "two")] == [True] * 3


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ("claims: [{better: base, than: rlx, group: sns, source: s}]", "claims='rlx' is not there"),
        ("groups: {sns: {capabilities: [matching]}, general: {}}", "'matching' is no capability"),
        ("groups: {sns: {tasks: [note_x]}, general: {}}", "'note_x' is no task"),
        ("seesaw: [sns, fluency]", "seesaw='fluency' is not there"),
        ("settings: {stages: {explor: {num_rollouts: 2}}}", "'explor' is no stage of"),
        ("paper: {source: s, columns: [a, b], arms: {base: [1.0]}}", "base has 1 figures for 2 columns"),
        ("held_out: {a-b: {data: data}}", "the name 'a-b' must be of letters, digits and _"),
    ],
)
def test_a_broken_file_is_refused(tmp_path: Path, more: str, told: str) -> None:
    assert told in problems(tmp_path, f"{more}\n{TABLE_3}")


def test_a_baseline_that_is_no_arm_is_refused(tmp_path: Path) -> None:
    assert "baseline='start' is not there" in problems(
        tmp_path, TABLE_3, HEAD.replace("baseline: base", "baseline: start")
    )


EXAMPLES = sorted(
    path for path in (ROOT / "examples").glob("*/*.yaml") if "arms:" in path.read_text(encoding="utf-8").splitlines()
)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_the_examples_are_whole(path: Path) -> None:
    ablation = load_ablation(path)
    assert len(ablation.arms) >= 4 and ablation.config.claims
    if ablation.config.paper is not None:
        assert set(ablation.config.paper.arms) & {arm.name for arm in ablation.arms}
