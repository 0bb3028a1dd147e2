"""An ablation's result made up for the tests of its page: every number is a function of names."""

from __future__ import annotations

from megatron_redone.common.seeding import rng
from megatron_redone.reporting.ablation_schema import (
    AblationResult,
    ArmResult,
    ArmScore,
    ClaimResult,
    Level,
    PaperTable,
    ScoreRow,
)
from megatron_redone.reporting.comparison_schema import FamilyScore, SeesawPoint

ARMS = ("base", "SFT", "SFT + RL", "RL", "RL + SFT", "RL + SFT + RL", "SFT, equal compute")
TASKS = ("note_taxonomy_single", "query_note_relevance", "gender_sensitive_appeal", "arithmetic")


def synthetic_ablation() -> AblationResult:
    """Seven arms, two groups, four tasks, two claims, the seesaw and a paper's table."""
    rows = [_row("group", name, 200) for name in ("sns", "general")] + [_row("task", name, 100) for name in TASKS]
    return AblationResult(
        name="made_up",
        command="redone ablate examples/redone2/ablation.yaml",
        recipe="examples/quickstart/recipe.yaml",
        seeds=(1, 2, 3),
        baseline=ARMS[0],
        arms=tuple(
            ArmResult(
                name=arm, title=arm, stages=("data", "warmup", "a_stage_with_a_long_name"),
                own_stages=("a_stage_with_a_long_name",), seeds=(1, 2, 3), missing_seeds=(), seconds=100.0,
                compute_tokens=1_000_000,
            )
            for arm in ARMS
        ),
        rows=tuple(rows),
        claims=(
            ClaimResult(better=ARMS[5], than=ARMS[2], group="sns", source="a paper", shown="shows", told="so"),
            ClaimResult(better=ARMS[0], than=ARMS[1], group="general", source="it", shown="no conclusion", told="so"),
        ),
        seesaw_groups=("sns", "general"),
        seesaw=tuple(SeesawPoint(run=arm, sns=_family(arm, "sns"), general=_family(arm, "general")) for arm in ARMS),
        paper=PaperTable(source="a paper", columns=("General", "SNS", "Translation"), arms={ARMS[0]: (1.0, 2.0, None)}),
        settings={"num_resamples": 1000, "seed": 0},
        machines=({"cores": 2},),
    )  # fmt: skip


def _score(arm: str, name: str) -> float:
    return round(20 + 60 * rng(0, "ablation", arm, name).random(), 1)


def _row(level: Level, name: str, num_rows: int) -> ScoreRow:
    base = _score(ARMS[0], name)
    return ScoreRow(
        level=level, name=name, title=name, held_out="own", num_tasks=1, num_rows=num_rows,
        scores=tuple(_arm_score(arm, _score(arm, name), base) for arm in ARMS),
    )  # fmt: skip


def _arm_score(arm: str, score: float, base: float) -> ArmScore:
    interval, seeds = (score - 5, score + 5), (score - 2, score, score + 2)
    if arm == ARMS[0]:
        return ArmScore(score=score, interval=interval, by_seed=seeds)
    return ArmScore(
        score=score, interval=interval, by_seed=seeds, difference=score - base,
        difference_interval=(score - base - 4, score - base + 4),
        verdict="no conclusion" if abs(score - base) < 10 else "better" if score > base else "worse",
    )  # fmt: skip


def _family(arm: str, name: str) -> FamilyScore:
    score, base = _score(arm, name), _score(ARMS[0], name)
    return FamilyScore(
        score=score, interval=(score - 5, score + 5), difference=score - base,
        difference_interval=(score - base - 4, score - base + 4), verdict="no conclusion",
    )  # fmt: skip
