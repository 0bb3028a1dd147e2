from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from megatron_redone.common.errors import ConfigError, DataError
from megatron_redone.config.loading import load_yaml
from megatron_redone.curation.regmix.config import RegMixFitConfig
from megatron_redone.curation.regmix.search import Outcome, natural_shares, read_runs, search, write_outcome
from megatron_redone.curation.regmix.tables import read_mixtures, read_prior, write_prior, write_table
from megatron_redone.launch.environment import from_environ
from megatron_redone.recipes.runner import StageExecutor
from megatron_redone.recipes.single_stage import load_stage
from megatron_redone.recipes.workspace import Workspace
from megatron_redone.reporting.regmix import RegMixResult, write_regmix_page
from megatron_redone.reporting.schema import read_result
from tests.unit.curation.regmix.test_regression import PRIOR, planted

COLUMNS = ["web", "chat", "weibo", "code"]


def tables(folder: Path, seed: int = 1, num_runs: int = 60) -> Path:
    mixtures, losses = planted(num_runs, seed)
    folder.mkdir(parents=True, exist_ok=True)
    names = [str(number) for number in range(num_runs)]
    write_table(folder / "mixtures.csv", names, COLUMNS, mixtures)
    write_table(folder / "losses.csv", names, ["weibo", "chat"], np.stack([losses, losses[::-1]], axis=1))
    return folder


def config(**changes: object) -> RegMixFitConfig:
    return RegMixFitConfig(**{"target": "weibo", "min_runs_in_leaf": 3, "num_samples": 5000, **changes})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    folder = tmp_path_factory.mktemp("runs")
    train = read_runs(config(), tables(folder / "a"), folder / "a")
    test = read_runs(config(), tables(folder / "b", seed=2), folder / "b")
    write_prior(folder / "a", dict(zip(COLUMNS, PRIOR, strict=True)))
    prior, source = natural_shares(config(), train, folder / "a")
    return search(config(), train, [test], prior, source)


def test_best_stands_first_beside_what_it_has_to_beat(outcome: Outcome) -> None:
    by_name = {mixture.name: mixture for mixture in outcome.result.mixtures}
    assert list(by_name) == ["best", "natural", "uniform", "best_measured", "only_weibo"]
    assert by_name["only_weibo"].weights == {"web": 0, "chat": 0, "weibo": 1, "code": 0}
    assert by_name["natural"].weights == outcome.result.prior
    assert min(by_name.values(), key=lambda mixture: mixture.predicted_loss).name in ("best", "best_measured")
    assert by_name["best"].predicted_loss < by_name["natural"].predicted_loss
    assert sum(outcome.result.importance.values()) == pytest.approx(1)


def test_each_run_is_predicted_once_by_what_has_not_seen_it(outcome: Outcome) -> None:
    assert [(table.name, table.kind, table.num_runs) for table in outcome.result.sets] == [
        ("a", "out of fold", 60),
        ("b", "test", 60),
    ]
    assert [table.stopped_on for table in outcome.result.sets] == [True, False]
    assert len(outcome.predictions) == 120
    assert all(table.spearman > 0.8 for table in outcome.result.sets)


def test_files_of_an_outcome(outcome: Outcome, tmp_path: Path) -> None:
    write_outcome(tmp_path, outcome, {"fit_seed": 42})
    blend = load_yaml(tmp_path / "blend.yaml")
    assert sum(blend["weights"].values()) == pytest.approx(1, abs=1e-12)
    assert blend["provenance"]["predicted_loss"].keys() == {mixture.name for mixture in outcome.result.mixtures}
    assert blend["provenance"]["fit_seed"] == 42
    assert read_result(tmp_path / "fit.json", RegMixResult) == outcome.result
    assert read_mixtures(tmp_path, 1e-9).names[0] == "best"
    assert read_prior(tmp_path) == outcome.result.prior
    page = write_regmix_page(tmp_path).read_text(encoding="utf-8")
    assert page.count("<svg") == 3 and "Spearman" in page
    assert "<script" not in page and "http" not in page.replace("http-equiv", "")
    again = tmp_path / "again"
    again.mkdir()
    write_outcome(again, outcome, {"fit_seed": 42})
    for name in ("fit.json", "predictions.jsonl", "blend.yaml", "mixtures.csv", "lightgbm.txt"):
        assert (again / name).read_bytes() == (tmp_path / name).read_bytes()


def test_names_of_domains_cannot_break_the_page(outcome: Outcome, tmp_path: Path) -> None:
    write_outcome(tmp_path, outcome, {})
    for name in ("fit.json", "predictions.jsonl"):
        text = (tmp_path / name).read_text()
        (tmp_path / name).write_text(text.replace('"code"', '"<script>x</script>"'))
    assert "<script" not in write_regmix_page(tmp_path).read_text(encoding="utf-8")


def test_a_target_of_several_losses_is_their_weighted_mean(tmp_path: Path) -> None:
    folder = tables(tmp_path / "a")
    both = read_runs(config(target={"weibo": 3.0, "chat": 1.0}), folder, folder)
    weibo, chat = (read_runs(config(target=name), folder, folder) for name in ("weibo", "chat"))
    np.testing.assert_allclose(both.target, 0.75 * weibo.target + 0.25 * chat.target)
    assert both.weights == {"weibo": 0.75, "chat": 0.25}


def test_natural_shares_come_from_the_settings_the_file_or_the_mean(tmp_path: Path) -> None:
    folder = tables(tmp_path / "a")
    train = read_runs(config(), folder, folder)
    mean, source = natural_shares(config(), train, folder)
    np.testing.assert_allclose(list(mean.values()), train.mixtures.values.mean(axis=0))
    assert "mean" in source
    given = {"code": 1.0, "weibo": 1.0, "chat": 2.0, "web": 4.0}
    assert natural_shares(config(prior=given), train, folder)[0] == {
        "web": 0.5, "chat": 0.25, "weibo": 0.125, "code": 0.125,
    }  # fmt: skip
    with pytest.raises(DataError, match="code"):
        natural_shares(config(prior={"web": 1.0, "chat": 1.0, "weibo": 1.0}), train, folder)


def test_test_runs_need_the_same_domains_in_any_order(tmp_path: Path) -> None:
    train = read_runs(config(), tables(tmp_path / "a"), tmp_path / "a")
    prior, source = natural_shares(config(), train, tmp_path / "a")
    folder = tables(tmp_path / "b", seed=2)
    straight = search(config(), train, [read_runs(config(), folder, folder)], prior, source)
    table = read_mixtures(folder, 0.005)
    write_table(folder / "mixtures.csv", table.names, table.columns[::-1], table.values[:, ::-1])
    turned = search(config(), train, [read_runs(config(), folder, folder)], prior, source)
    assert straight.predictions == turned.predictions
    write_table(folder / "mixtures.csv", table.names, ["web", "chat", "weibo", "books"], table.values)
    with pytest.raises(DataError, match="books, code"):
        search(config(), train, [read_runs(config(), folder, folder)], prior, source)


def test_stage_settings_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    folder = tables(tmp_path / "a")
    given = [f"mixtures={folder}", "target=weibo"]
    load_stage("regmix_fit", None, given, tmp_path / "out")
    for more, rule in (
        (["early_stop_on=test"], "needs test_mixtures"),
        ([f"test_mixtures=[{folder}]"], "names 1 tables and test_losses 0"),
        (["num_best=7", "num_samples=6"], "num_best=7 is above"),
        (["target={weibo: 0}"], "weights are above 0"),
        (["target=7"], "target"),
    ):
        with pytest.raises(ConfigError, match=rule):
            load_stage("regmix_fit", None, given + more, tmp_path / "out")


def test_the_stage_fits_the_tables_of_a_folder(tmp_path: Path) -> None:
    folder = tables(tmp_path / "runs")
    write_prior(folder, dict(zip(COLUMNS, PRIOR, strict=True)))
    given = ["target=weibo", "min_runs_in_leaf=3", "num_samples=2000"]

    def run(out: str, *more: str) -> Path:
        recipe = load_stage("regmix_fit", None, [*given, *more], tmp_path / out)
        StageExecutor(Workspace(recipe, tmp_path), from_environ({})).execute(recipe.runs[0])
        return tmp_path / out

    beside = run("beside", f"mixtures={folder}")
    assert load_yaml(beside / "blend.yaml")["provenance"]["inputs_sha256"].keys() == {"mixtures"}
    apart = run(
        "apart", f"mixtures={folder / 'mixtures.csv'}", f"losses={folder / 'losses.csv'}",
        "prior={web: 0.5, chat: 0.3, weibo: 0.15, code: 0.05}",
    )  # fmt: skip
    assert (apart / "mixtures.csv").read_bytes() == (beside / "mixtures.csv").read_bytes()
    with pytest.raises(DataError, match="is a file; give `losses` as well"):
        run("without", f"mixtures={folder / 'mixtures.csv'}")


@pytest.mark.skipif("REGMIX_RUNS" not in os.environ, reason="REGMIX_RUNS names no folder with the published runs")
@pytest.mark.parametrize("stop_on", ["test", "folds"])
def test_the_published_runs_give_the_published_figures(stop_on: str) -> None:
    folder = Path(os.environ["REGMIX_RUNS"])
    settings = RegMixFitConfig(target="pile_cc", early_stop_on=stop_on, num_samples=1000)  # type: ignore[arg-type]
    train = read_runs(settings, folder / "train_mixture_1m.csv", folder / "train_pile_loss_1m.csv")
    tests = [
        read_runs(settings, folder / f"test_mixture_{size}.csv", folder / f"test_pile_loss_{size}.csv")
        for size in ("1m", "60m", "1B")
    ]
    prior, source = natural_shares(settings, train, folder)
    found = [table.spearman for table in search(settings, train, tests, prior, source).result.sets]
    assert found[1] == pytest.approx(0.989, abs=0.0015)
    assert found[2] == pytest.approx(0.985, abs=0.0015)
    assert found[3] == pytest.approx(0.965, abs=0.004)
