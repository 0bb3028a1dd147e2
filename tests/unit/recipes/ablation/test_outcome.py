"""The table of an ablation from runs on disk: planted gains show, and what is missing is said."""

from __future__ import annotations

from collections.abc import Mapping
from html.parser import HTMLParser
from pathlib import Path
from random import Random

import pytest

from megatron_redone.common.errors import DataError
from megatron_redone.common.files import atomic_write_json
from megatron_redone.evaluation.runner import task_scores, write_evaluation
from megatron_redone.recipes.ablation.expand import Ablation, load_ablation
from megatron_redone.recipes.ablation.outcome import ablation_result, write_outcome
from megatron_redone.reporting.ablation_page import ablation_html
from megatron_redone.reporting.ablation_schema import AblationResult, ArmScore
from megatron_redone.reporting.ablation_table import ablation_markdown
from megatron_redone.reporting.schema import EvaluationResult, FileRecord, Manifest, Prediction, read_result
from megatron_redone.scoring.base import Score
from megatron_redone.tasks.row import Row

FILE = """\
name: planted
output: {output}
recipe: recipe.yaml
seeds: [1, 2, 3]
baseline: base
num_resamples: 300
arms:
  base: {{result: base}}
  sft: {{title: SFT <i>, result: sft}}
  rl: {{result: rl}}
claims:
  - {{better: sft, than: base, group: sns, source: planted}}
  - {{better: sft, than: base, group: general, source: the seesaw is planted the other way}}
  - {{better: rl, than: base, group: sns, source: nothing is planted}}
paper: {{source: a paper, columns: [General, SNS], arms: {{base: [69.8, 51.81], sft: [63.65, null], another: [1, 2]}}}}
"""
RECIPE = """\
name: part
output: run
evaluate: {data: data}
stages:
  data: {kind: synthesize}
  base: {kind: evaluate, model: ./m}
  set: {kind: sft_set, data: data}
  sft: {kind: sft, per_seed: true, model: base, conversations: set, epochs: 1}
  rl_set: {kind: rl_set, data: data}
  rl: {kind: dapo, per_seed: true, model: base, rows: rl_set, num_rollouts: 1}
"""
LEVELS = {"base": (0.3, 0.7), "sft": (0.6, 0.3), "rl": (0.31, 0.7)}
"""Arm -> share of right answers on the SNS task and on the general one."""
SNS, GENERAL = "note_security", "arithmetic"


def written(folder: Path, seeds: Mapping[str, tuple[int | None, ...]]) -> Ablation:
    """An ablation whose stages are done, with answers that are right as often as planted."""
    (folder / "recipe.yaml").write_text(RECIPE, encoding="utf-8")
    (folder / "ablation.yaml").write_text(FILE.format(output=folder / "run"), encoding="utf-8")
    ablation = load_ablation(folder / "ablation.yaml")
    for stage, of_stage in seeds.items():
        for seed in of_stage:
            _write_stage(folder / "run" / (stage if seed is None else f"{stage}.seed{seed}"), stage, seed)
    return ablation


def _write_stage(folder: Path, stage: str, seed: int | None) -> None:
    random = Random(f"{stage} {seed}")
    rows, scores = [], []
    for task, level in zip((SNS, GENERAL), LEVELS[stage], strict=True):
        for number in range(120):
            rows.append(Row(f"{task}-{number}", task, "en", {}, ""))
            scores.append(Score(float(random.random() < level), True, {}))
    predictions = [
        Prediction(
            id=row.id, task=row.task, language="en", prompt="", output="", target="", value=score.value, parsed=True
        )
        for row, score in zip(rows, scores, strict=True)
    ]
    result = EvaluationResult(
        label=stage, seed=seed, split="test", model=stage, tasks=tuple(task_scores(rows, scores)), mean_score=50.0,
        num_rows=len(rows),
    )  # fmt: skip
    write_evaluation(folder / "evaluation", result, predictions)
    manifest = Manifest(
        stage=stage, kind="sft", status="done", config={}, code_version="0", started="", seconds=10.0,
        outputs={"folder": FileRecord(path=folder.name, sha256="0")}, counts={"compute_tokens": 1000},
        machine={"cores": 2},
    )  # fmt: skip
    atomic_write_json(folder / "manifest.json", manifest.model_dump(mode="json"))


ALL: dict[str, tuple[int | None, ...]] = {"base": (None,), "sft": (1, 2, 3), "rl": (1, 2, 3)}


@pytest.fixture(scope="module")
def ablation(tmp_path_factory: pytest.TempPathFactory) -> Ablation:
    return written(tmp_path_factory.mktemp("ablation"), ALL)


@pytest.fixture(scope="module")
def result(ablation: Ablation) -> AblationResult:
    return ablation_result(ablation, "redone ablate ablation.yaml")


def score_of(result: AblationResult, row: str, arm: str) -> ArmScore:
    names = [one.name for one in result.arms]
    found = next(one for one in result.rows if one.name == row).scores[names.index(arm)]
    assert found is not None
    return found


def test_planted_gains_and_losses_get_their_verdicts(result: AblationResult) -> None:
    verdicts = {
        (arm, group): score_of(result, group, arm).verdict for arm in ("sft", "rl") for group in ("sns", "general")
    }
    assert verdicts == {
        ("sft", "sns"): "better", ("sft", "general"): "worse", ("rl", "sns"): "no conclusion",
        ("rl", "general"): "no conclusion",
    }  # fmt: skip
    sft = score_of(result, "sns", "sft")
    assert len(sft.by_seed) == 3 and sft.score == pytest.approx(sum(sft.by_seed) / 3, abs=1e-3)
    assert score_of(result, "sns", "base").verdict is None


def test_claims_say_what_shows(result: AblationResult) -> None:
    assert [claim.shown for claim in result.claims] == ["shows", "the other way", "no conclusion"]
    assert "the intervals of the two overlap" in result.claims[2].told


def test_the_seesaw_starts_at_the_baseline(result: AblationResult) -> None:
    assert [point.run for point in result.seesaw] == ["base", "SFT <i>", "rl"]
    sft = result.seesaw[1]
    assert (sft.sns.verdict, sft.general.verdict) == ("better", "worse")


def test_costs_are_those_of_an_arm_s_own_stages(result: AblationResult) -> None:
    arms = {arm.name: arm for arm in result.arms}
    assert (arms["base"].compute_tokens, arms["base"].seconds) == (0, 0.0), "all arms have it"
    assert (arms["sft"].compute_tokens, arms["sft"].seconds) == (1000, 30.0)
    assert arms["sft"].own_stages == ("set", "sft")


def test_files_hold_what_the_result_says(ablation: Ablation, result: AblationResult) -> None:
    page = write_outcome(ablation, result.command)
    assert read_result(page.with_name("ablation.json"), AblationResult) == result
    table = page.with_name("ablation.md").read_text(encoding="utf-8")
    assert "SFT &lt;i>" in table and "63.65" in table and "another" in table
    assert f"**{score_of(result, 'sns', 'sft').score:.1f}**" in table


class Figures(HTMLParser):
    """Counts what a page draws."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.append(tag)


def test_the_page_draws_every_figure_and_escapes_names(result: AblationResult) -> None:
    page = ablation_html(result)
    parser = Figures()
    parser.feed(page)
    assert parser.tags.count("figure") == parser.tags.count("svg") == 3, "two groups and the seesaw"
    assert "SFT &lt;i&gt;" in page and "SFT <i>" not in page and "script" not in parser.tags
    for claim in result.claims:
        assert claim.shown in page


def test_what_is_not_done_is_said_and_not_scored(tmp_path: Path) -> None:
    result = ablation_result(written(tmp_path, {"base": (None,), "sft": (1, 3)}), "redone ablate")
    assert result.gaps == ("SFT <i> is not done for seeds 2.", "rl is not done for seeds 1, 2, 3.")
    assert result.claims[2].shown == "not run yet" and len(score_of(result, "sns", "sft").by_seed) == 2
    assert all(row.scores[2] is None for row in result.rows)
    assert "not run yet" in ablation_html(result) and "| rl | - |" in ablation_markdown(result)


def test_nothing_done_is_an_error_that_says_so(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no arm is scored yet"):
        ablation_result(written(tmp_path, {}), "redone ablate")
