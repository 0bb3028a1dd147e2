"""The programs around alignment: the study of what DAPO learns, and what held-out pairs think of a model."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from megatron_redone.common.jsonl import read_jsonl, write_jsonl
from megatron_redone.models.families import read_shape
from megatron_redone.tasks.reading import read_rows
from tests.integration.mini_recipe import run_here
from tools import dapo_learns, measure_preferences
from tools.dapo_learns import TOPICS, Curve, interval, read_curves, table

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("learns") / "data"
    assert dapo_learns.main(["make", "--out", str(out)]) == 0
    return out


def test_the_warm_up_tells_nothing_of_the_task_and_no_test_row_is_trained(data: Path) -> None:
    train, test = (read_rows(data / name).rows for name in ("rows.jsonl", "test.jsonl"))
    assert (len(train), len(test)) == (600, 200)
    assert not {row.id for row in train} & {row.id for row in test}
    assert {row.answer for row in test} == set(TOPICS)
    right = {row.id: row.answer for row in train}
    conversations = [value for _, value in read_jsonl(data / "conversations.jsonl")]
    guesses = [(value["id"], value["messages"][-1]["content"]) for value in conversations if value["id"] in right]
    others = [value for value in conversations if value["id"] not in right]
    assert len(guesses) == len(others) == 480
    texts = [f" {message['content']} " for value in others for message in value["messages"]]
    assert not any(f" {topic} " in text for text in texts for topic in TOPICS)
    share = sum(right[name] == guess for name, guess in guesses) / len(guesses)
    assert abs(share - 0.25) < 3 * math.sqrt(0.25 * 0.75 / len(guesses))
    assert read_shape(data / "model").vocab_size % 64 == 0


def curve(arm: str, seed: int, scores: list[float]) -> Curve:
    return Curve(arm, seed, tuple(scores), thrown_away=seed, generated_groups=10, test_score=scores[-1])


def test_the_table_compares_arms_seed_by_seed() -> None:
    curves = [
        curve("full", 1, [0.25, 0.5, 0.95]),
        curve("full", 2, [0.25, 0.9, 0.95]),
        curve("other", 1, [0.25, 0.4, 0.75]),
        curve("other", 2, [0.25, 0.8, 0.95]),
    ]
    lines = table(curves, ["full", "other"]).splitlines()
    full, other = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:])
    assert full[:3] == ["full", "2", "0.25"] and full[5].startswith("1.5 [") and full[7] == ""
    assert other[5] == "2.0 (1 of 2 runs)"
    assert other[7].startswith("-0.067 [")  # (-0.1 and -0.0333)
    assert interval([1.0]) is None
    low, high = interval([1.0, 2.0, 3.0]) or (0.0, 0.0)
    assert (low, high) == pytest.approx((2 - 4.3027 / math.sqrt(3), 2 + 4.3027 / math.sqrt(3)), abs=1e-4)


def test_an_arm_without_a_run_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert dapo_learns.main(["report", "--run", str(tmp_path), "--arms", "full"]) == 2
    assert "no finished run of 'full'" in capsys.readouterr().err


def test_pairs_prefer_the_model_that_learnt_them(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same model before and after has no margin and an accuracy of 0."""
    write_jsonl(
        tmp_path / "pairs.jsonl",
        [{"id": str(n), "prompt": f"wave {n}", "chosen": "tea", "rejected": "garden work"} for n in range(3)],
    )
    model = str(data / "model")
    options = ["--pairs", str(tmp_path / "pairs.jsonl"), "--before", model, "--after", model, "--max-length", "64"]
    assert measure_preferences.main([*options, "--precision", "fp32"]) == 0
    said = capsys.readouterr().out
    assert "| over 3 pairs |" in said and "| reward margin | 0.000 | 0.000 to 0.000 |" in said
    assert "| accuracy of the implicit reward | 0.000 |" in said


@pytest.mark.slow
def test_dapo_learns_a_verifiable_task_from_chance_to_nine_tenths(data: Path, tmp_path: Path) -> None:
    """One seed of the study's full arm: the rows that it is tested on were never trained on."""
    text = (ROOT / "examples" / "dapo_learns" / "recipe.yaml").read_text(encoding="utf-8")
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        text[: text.index("  no_dynamic_sampling:")].replace("../../runs/dapo_learns_data", str(data)), encoding="utf-8"
    )
    assert run_here(tmp_path / "run", "seeds=[1]", recipe=recipe) == 0
    (found,) = read_curves(tmp_path / "run", ["full"])
    assert abs(found.scores[0] - 0.25) < 0.12
    assert found.test_score > 0.9 and max(found.scores) > 0.9
    assert len(found.scores) == 45
