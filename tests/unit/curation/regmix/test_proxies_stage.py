"""Proxy runs through the stage: resumed, in a pool, in parts, and what their losses say."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from megatron_redone.common.errors import ConfigError, DataError, Preempted
from megatron_redone.common.files import sha256_path
from megatron_redone.curation.regmix.tables import read_prior, read_table, write_table
from megatron_redone.data.indexed_corpus import write_corpus
from megatron_redone.data.tokenizer import train_sentencepiece
from megatron_redone.launch.environment import from_environ
from megatron_redone.recipes.runner import StageExecutor
from megatron_redone.recipes.single_stage import load_stage
from megatron_redone.recipes.workspace import Workspace
from megatron_redone.training import stop
from megatron_redone.training.engine import MegatronEngine

WEIGHTS = np.array([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5], [0.25, 0.75]])


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two domains: `up` counts upwards, `down` downwards."""
    folder = tmp_path_factory.mktemp("inputs")
    train_sentencepiece(["some text to learn a few pieces from"] * 3, folder / "tokenizer", 300, 0)
    random = np.random.default_rng(0)
    for name, step in (("up", 1), ("down", -1)):
        for part, num_documents in (("", 60), ("_heldout", 12)):
            starts = random.integers(50, 250, num_documents)
            documents = [[int(start + step * place) for place in range(20)] for start in starts]
            write_corpus(folder / f"{name}{part}" / "corpus", documents, 300)
    write_table(folder / "mixtures.csv", ["a", "b", "c", "d"], ["up", "down"], WEIGHTS)
    return folder


def proxies(inputs: Path, out: Path, *settings: str) -> Path:
    given = [
        f"mixtures={inputs / 'mixtures.csv'}",
        f"tokenizer={inputs / 'tokenizer'}",
        f"domains={{up: {inputs / 'up'}, down: {inputs / 'down'}}}",
        f"validation={{up: {inputs / 'up_heldout'}, down: {inputs / 'down_heldout'}}}",
        "model.preset=qwen3-tiny", "sequence_length=32", "global_batch_size=2", "steps=4", "optimizer.lr=0.01",
        "threads=1",
    ]  # fmt: skip
    recipe = load_stage("regmix_proxies", None, [*given, *settings], out)
    (run,) = recipe.runs
    StageExecutor(Workspace(recipe, recipe.config.output), from_environ({})).execute(run)
    return out


@pytest.fixture(scope="module")
def whole(inputs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What every interrupted or divided training has to come to."""
    return proxies(inputs, tmp_path_factory.mktemp("whole") / "proxies")


@pytest.fixture
def at_step(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, Callable[[], None]], None]:
    """Calls a function before the n-th training step of the test."""
    train_step = MegatronEngine.train_step

    def plant(number: int, event: Callable[[], None]) -> None:
        steps = 0

        def counted(*arguments: object) -> object:
            nonlocal steps
            steps += 1
            if steps == number:
                event()
            return train_step(*arguments)  # type: ignore[arg-type]

        monkeypatch.setattr(MegatronEngine, "train_step", counted)

    return plant


def test_a_run_leaves_its_mixture_losses_and_nothing_of_its_training(whole: Path) -> None:
    assert sorted(path.name for path in (whole / "runs").iterdir()) == ["a.json", "b.json", "c.json", "d.json"]
    run = json.loads((whole / "runs" / "d.json").read_text())
    assert (run["weights"], run["trained_tokens"], run["seed"]) == ({"up": 0.25, "down": 0.75}, 4 * 2 * 32, 0)
    assert run["epochs"]["down"] == pytest.approx(6 * 32 / (60 * 21), abs=1e-4)
    assert not (whole / "checkpoints").exists()
    losses = read_table(whole / "losses.csv")
    assert (losses.names, losses.columns) == (("a", "b", "c", "d"), ("up", "down"))
    assert losses.row(3) == run["losses"]
    np.testing.assert_array_equal(read_table(whole / "mixtures.csv").values, WEIGHTS)


def test_a_stop_is_resumed_in_the_middle_of_a_run(
    inputs: Path, whole: Path, tmp_path: Path, at_step: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stop, "_signal", 0)
    at_step(6, lambda: stop.request_stop(signal.SIGTERM))
    with pytest.raises(Preempted, match="b: stopped after step 2 of 4"):
        proxies(inputs, tmp_path / "proxies")
    work = tmp_path / ".work" / "proxies"
    assert [path.name for path in (work / "runs").iterdir()] == ["a.json"]
    assert [path.name for path in (work / "checkpoints").iterdir()] == ["b"]
    monkeypatch.setattr(stop, "_signal", 0)
    assert sha256_path(proxies(inputs, tmp_path / "proxies")) == sha256_path(whole)


def test_after_a_crash_only_the_runs_that_did_not_finish_are_made(
    inputs: Path, whole: Path, tmp_path: Path, at_step: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash() -> None:
        raise MemoryError("planted")

    with monkeypatch.context():
        at_step(11, crash)
        with pytest.raises(MemoryError):
            proxies(inputs, tmp_path / "proxies")
    steps: list[int] = []
    at_step(9, lambda: steps.append(9))
    assert sha256_path(proxies(inputs, tmp_path / "proxies")) == sha256_path(whole)
    assert steps == [], "two runs of four steps were left: there was no ninth step"


def test_parts_gathered_are_the_whole(inputs: Path, whole: Path, tmp_path: Path, at_step: Callable[..., None]) -> None:
    for place in range(2):
        proxies(inputs, tmp_path / "parts" / str(place) / "proxies", f"part={place}/2")

    def fail() -> None:
        raise AssertionError("gathering trains nothing")

    at_step(1, fail)
    gathered = proxies(inputs, tmp_path / "proxies", f"finished={tmp_path / 'parts'}")
    assert sha256_path(gathered) == sha256_path(whole)
    with pytest.raises(DataError, match="made with other settings"):
        proxies(inputs, tmp_path / "other", f"finished={tmp_path / 'parts'}", "steps=5")


@pytest.mark.distributed
def test_a_pool_gives_the_same_bytes(inputs: Path, whole: Path, tmp_path: Path) -> None:
    assert sha256_path(proxies(inputs, tmp_path / "proxies", "workers=2")) == sha256_path(whole)


def test_mixtures_are_drawn_around_the_tokens_of_the_domains(inputs: Path, tmp_path: Path) -> None:
    tables = {}
    for number in (3, 5):
        given = [f"domains={{up: {inputs / 'up'}, small: {inputs / 'up_heldout'}}}", f"num_mixtures={number}"]
        recipe = load_stage("regmix_mixtures", None, given, tmp_path / str(number))
        StageExecutor(Workspace(recipe, tmp_path), from_environ({})).execute(recipe.runs[0])
        tables[number] = read_table(tmp_path / str(number) / "mixtures.csv")
    assert read_prior(tmp_path / "3") == {"up": 60 / 72, "small": 12 / 72}
    assert tables[5].names == ("00001", "00002", "00003", "00004", "00005")
    np.testing.assert_array_equal(tables[5].values[:3], tables[3].values)
    for more, rule in (([], "give exactly one"), (["prior={a: 1}"], "needs two at least")):
        with pytest.raises(ConfigError, match=rule):
            load_stage("regmix_mixtures", None, more, tmp_path / "none")


def test_more_of_a_domain_lowers_its_loss(inputs: Path, tmp_path: Path) -> None:
    found = read_table(proxies(inputs, tmp_path / "proxies", "steps=24") / "losses.csv").values
    only_up, only_down, half, _ = found
    assert only_up[0] < half[0] < only_down[0]
    assert only_down[1] < half[1] < only_up[1]


def test_seeds_are_other_weights_and_another_order_of_data(inputs: Path, whole: Path, tmp_path: Path) -> None:
    table = read_table(inputs / "mixtures.csv")
    write_table(tmp_path / "a.csv", ["a"], table.columns, table.values[:1])
    out = proxies(inputs, tmp_path / "proxies", "num_seeds=2", f"mixtures={tmp_path / 'a.csv'}")
    losses, single = read_table(out / "losses.csv"), read_table(whole / "losses.csv")
    assert losses.names == ("a.seed1", "a.seed2")
    np.testing.assert_array_equal(losses.values[0], single.values[0])
    assert (losses.values[1] != losses.values[0]).all()
    assert json.loads((out / "by_mixture.json").read_text())["a"]["up"]["seeds"] == 2


@pytest.mark.parametrize(
    ("settings", "rule"),
    [
        (["sequence_length=512"], "do not fill a row of sequence_length=512"),
        (["model.vocab_size=200"], "the tokenizer has 300 ids"),
        (["part=7/9"], "is empty; make fewer parts"),
    ],
)
def test_what_cannot_be_trained_is_refused(inputs: Path, tmp_path: Path, settings: list[str], rule: str) -> None:
    with pytest.raises(Exception, match=rule):
        proxies(inputs, tmp_path / "proxies", "steps=1", *settings)
