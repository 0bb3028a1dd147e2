"""`redone curate sft` and `redone curate stats` from the command line, and the set read by training."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from megatron_redone.cli.curate_app import curate_app
from megatron_redone.common.errors import ConfigError
from megatron_redone.data.chat_template import ChatTemplate
from megatron_redone.recipes.executors.sft import read_examples
from megatron_redone.recipes.graph import load_recipe
from megatron_redone.recipes.single_stage import load_stage
from megatron_redone.tasks.reading import write_rows
from megatron_redone.training.sft import encode
from tests.scripted_generation import sum_row, sums_template

EXAMPLE = Path(__file__).parents[3] / "examples" / "sft_two_steps" / "recipe.yaml"


@pytest.fixture
def inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ChatTemplate:
    """A folder with task rows, an Alpaca list and a tokenizer, which is the working folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    write_rows(tmp_path / "data" / "train.jsonl", [sum_row(number) for number in range(12)])
    rows = [{"instruction": f"what is {n}?", "output": "1", "history": [["and 3?", "2"]]} for n in range(8)]
    (tmp_path / "alpaca.json").write_text(json.dumps(rows))
    (tmp_path / "tokenizer").mkdir()
    return sums_template(tmp_path / "tokenizer")


def test_a_set_is_made_told_and_read_by_training(inputs: ChatTemplate) -> None:
    settings = ["data=data", "general=[alpaca.json]", "tokenizer=tokenizer", "sequence_length=200", "schedule=redone"]
    done = CliRunner().invoke(curate_app, ["sft", *settings, "--out", "set"], catch_exceptions=False)
    assert done.exit_code == 0
    manifest = json.loads(Path("set/manifest.json").read_text())
    assert manifest["counts"]["step1/conversations"] == 20 and manifest["counts"]["step2/conversations"] == 15
    assert sorted(path.name for path in Path("set").iterdir()) == ["manifest.json", "step1", "step2"]
    told = json.loads(Path("set/step2/set.json").read_text())
    examples = {example.id: example for example in read_examples(Path("set/step2"))}
    lengths = [len(encode(example, inputs)) for example in examples.values()]
    assert told["tokens"]["total"] == sum(lengths)
    assert told["packing"]["efficiency"] == sum(lengths) / (told["packing"]["packed_rows"] * 200)


def test_every_answer_of_a_dialogue_is_learnt_with_the_weight_of_its_row(inputs: ChatTemplate) -> None:
    rows = json.loads(Path("alpaca.json").read_text())
    rows[0]["loss_weight"] = 0.25
    Path("alpaca.json").write_text(json.dumps(rows))
    CliRunner().invoke(curate_app, ["sft", "general=[alpaca.json]", "--out", "set"], catch_exceptions=False)
    for number, example in enumerate(read_examples(Path("set"))):
        document = encode(example, inputs)
        weights = {0.0, 0.25 if number == 0 else 1.0}
        assert set(document.loss_mask) == weights
        learnt = [token for token, weight in zip(document.token_ids, document.loss_mask, strict=True) if weight]
        assert learnt == [*inputs.answer_ids("2"), inputs.end_id, *inputs.answer_ids("1"), inputs.end_id]


def test_statistics_of_a_set_are_written_with_their_page(inputs: ChatTemplate) -> None:
    settings = ["data=[data/train.jsonl,alpaca.json]", "tokenizer=tokenizer", "title=Sums"]
    done = CliRunner().invoke(curate_app, ["stats", *settings, "--out", "stats"], catch_exceptions=False)
    assert done.exit_code == 0
    told = json.loads(Path("stats/stats.json").read_text())
    assert (told["rows"], told["turns"]) == (20, {"1": 12, "2": 8})
    assert "<h1>Sums</h1>" in Path("stats/stats.html").read_text()


@pytest.mark.parametrize(
    ("kind", "settings", "rule"),
    [
        ("sft_set", [], "data, sns and general are empty"),
        ("sft_set", ["data=data", "sequence_length=9"], "sequence_length would have no effect without a tokenizer"),
        ("sft_set", ["data=data", "sns=[nowhere]"], r"sns.0='.*nowhere' is not there"),
        ("stats", ["data=[data]", "labeller=model"], "`model` names the model"),
        ("stats", ["data=[]"], "data"),
    ],
)
@pytest.mark.usefixtures("inputs")
def test_wrong_settings_are_refused(kind: str, settings: list[str], rule: str) -> None:
    with pytest.raises(ConfigError, match=rule):
        load_stage(kind, None, settings, Path("out"))


def test_the_example_holds_the_figures_of_the_paper() -> None:
    stages = load_recipe(EXAMPLE).stages
    for name, epochs, rate in (("sft1", 3, 5e-6), ("sft2", 2, 3e-6)):
        stage = stages[name]
        assert (stage.epochs, stage.optimizer.lr) == (epochs, rate)  # type: ignore[attr-defined]
        assert (stage.sequence_length, stage.global_batch_size) == (16_384, 128)  # type: ignore[attr-defined]
        assert stage.optimizer.schedule == "linear" and stage.optimizer.warmup_ratio == 0.1  # type: ignore[attr-defined]
    assert stages["sft2"].model == "sft1" and stages["sft2"].schedule_step == 2  # type: ignore[attr-defined]
