"""What is planned, taken over and gathered. Nothing is trained here."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from megatron_redone.common.errors import DataError
from megatron_redone.config.base import RuleViolations
from megatron_redone.curation.regmix.config import RegMixProxiesConfig
from megatron_redone.curation.regmix.proxy import ProxyResult, ProxyRun, fingerprint_of, planned_runs
from megatron_redone.curation.regmix.results import BY_MIXTURE, read_result_file, take_finished, write_tables
from megatron_redone.curation.regmix.tables import Table, read_table
from megatron_redone.models.config import ModelConfig

DOMAINS = ["web", "chat"]


def mixtures(*names: str, weights: tuple[float, float] = (0.25, 0.75)) -> Table:
    return Table(names, ("web", "chat"), np.array([weights] * len(names)), Path("mixtures.csv"))


def result(run: ProxyRun, loss: float = 3.0, fingerprint: str = "f") -> ProxyResult:
    return ProxyResult(
        run.id, run.mixture, dict(run.weights), run.seed, {"web": loss, "chat": 2 * loss}, {"web": 1.0}, 10, 20, 0, 3.5,
        fingerprint,
    )  # fmt: skip


def test_each_mixture_is_trained_from_each_seed() -> None:
    runs = planned_runs(RegMixProxiesConfig(num_seeds=2), mixtures("a", "b"), DOMAINS, seed=7)
    assert [(run.id, run.mixture, run.seed) for run in runs] == [
        ("a.seed1", "a", 7), ("a.seed2", "a", 8), ("b.seed1", "b", 7), ("b.seed2", "b", 8),
    ]  # fmt: skip
    (single,) = planned_runs(RegMixProxiesConfig(), mixtures("a"), DOMAINS, seed=7)
    assert (single.id, dict(single.weights)) == ("a", {"web": 0.25, "chat": 0.75})


def test_parts_make_up_the_whole() -> None:
    table = mixtures(*"abcdefg")
    whole = planned_runs(RegMixProxiesConfig(), table, DOMAINS, 0)
    parts = [planned_runs(RegMixProxiesConfig(part=f"{place}/3"), table, DOMAINS, 0) for place in range(3)]
    assert sorted(run.id for part in parts for run in part) == [run.id for run in whole]
    assert [len(part) for part in parts] == [3, 2, 2]


@pytest.mark.parametrize("part", ["3/3", "1", "a/b", "-1/3"])
def test_a_part_of_no_whole_is_refused(part: str) -> None:
    with pytest.raises((RuleViolations, ValueError), match="PLACE/PARTS"):
        RegMixProxiesConfig(part=part)


def test_an_unknown_preset_is_refused_before_anything_runs() -> None:
    with pytest.raises((RuleViolations, ValueError), match="did you mean 'proxy-1m'"):
        RegMixProxiesConfig(model=ModelConfig(preset="proxy-1"))


def test_weights_of_rounded_mixtures_are_divided_by_their_sum() -> None:
    (run,) = planned_runs(RegMixProxiesConfig(), mixtures("a", weights=(0.333, 0.664)), DOMAINS, 0)
    assert sum(run.weights.values()) == pytest.approx(1, abs=1e-12)


def test_a_domain_without_corpus_is_refused_unless_nothing_is_drawn_from_it() -> None:
    with pytest.raises(DataError, match=r"run 'a' gives 'chat' the weight 0\.75, but domains has no corpus"):
        planned_runs(RegMixProxiesConfig(), mixtures("a"), ["web"], 0)
    (run,) = planned_runs(RegMixProxiesConfig(), mixtures("a", weights=(1.0, 0.0)), ["web"], 0)
    assert dict(run.weights) == {"web": 1.0}


@pytest.mark.parametrize("name", ["../a", "a/b", ".a"])
def test_a_mixture_whose_name_is_a_path_is_refused(name: str) -> None:
    with pytest.raises(DataError, match="names a file"):
        planned_runs(RegMixProxiesConfig(), mixtures(name), DOMAINS, 0)


def test_the_fingerprint_is_of_what_decides_losses() -> None:
    inputs = {"tokenizer": "t", "domains.web": "w", "mixtures": "m"}
    known = fingerprint_of(RegMixProxiesConfig(), inputs)
    for same in (RegMixProxiesConfig(workers=4, part="0/2"), RegMixProxiesConfig(num_seeds=3)):
        assert fingerprint_of(same, inputs) == known
    assert fingerprint_of(RegMixProxiesConfig(), inputs | {"mixtures": "other", "finished": "x"}) == known
    assert fingerprint_of(RegMixProxiesConfig(steps=7), inputs) != known
    assert fingerprint_of(RegMixProxiesConfig(), inputs | {"domains.web": "other"}) != known


def write(folder: Path, *results: ProxyResult) -> Path:
    (folder / "runs").mkdir(parents=True)
    for value in results:
        (folder / "runs" / f"{value.id}.json").write_text(json.dumps(asdict(value)))
    return folder


def test_finished_runs_of_all_parts_are_taken_over(tmp_path: Path) -> None:
    runs = planned_runs(RegMixProxiesConfig(), mixtures("a", "b", "c"), DOMAINS, 0)
    other = ProxyRun("z", "z", {"web": 1.0}, 0)
    write(tmp_path / "parts" / "0" / "proxies", result(runs[0]), result(other))
    write(tmp_path / "parts" / "1" / "proxies", result(runs[1]))
    work = tmp_path / "work"
    assert take_finished(tmp_path / "parts", runs, "f", work) == 2
    assert sorted(path.name for path in (work / "runs").iterdir()) == ["a.json", "b.json"]
    assert read_result_file(work / "runs" / "a.json") == result(runs[0])


def test_finished_runs_of_something_else_are_refused(tmp_path: Path) -> None:
    (run,) = planned_runs(RegMixProxiesConfig(), mixtures("a"), DOMAINS, 0)
    write(tmp_path / "settings", result(run, fingerprint="other"))
    write(tmp_path / "seed", result(ProxyRun("a", "a", run.weights, 5)))
    write(tmp_path / "weights", result(ProxyRun("a", "a", {"web": 1.0}, 0)))
    for name, rule in (("settings", "made with other settings"), ("seed", "seed 5"), ("weights", "the run has")):
        with pytest.raises(DataError, match=rule):
            take_finished(tmp_path / name, [run], "f", tmp_path / "work")


@pytest.mark.parametrize("text", ["{", "[]", '{"id": "a"}', ""])
def test_a_broken_result_is_refused_with_its_remedy(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(DataError, match=r"a\.json.*remove it"):
        read_result_file(tmp_path / "a.json")


def test_tables_and_spread_over_seeds(tmp_path: Path) -> None:
    runs = planned_runs(RegMixProxiesConfig(num_seeds=2), mixtures("a", "b"), DOMAINS, 0)
    write_tables(
        tmp_path, DOMAINS, DOMAINS, [result(run, loss) for run, loss in zip(runs, (1, 3, 5, 5), strict=True)], 2
    )
    losses = read_table(tmp_path / "losses.csv")
    assert losses.names == ("a.seed1", "a.seed2", "b.seed1", "b.seed2")
    assert losses.values.tolist() == [[1, 2], [3, 6], [5, 10], [5, 10]]
    spread = json.loads((tmp_path / BY_MIXTURE).read_text())
    assert spread["a"]["web"] == {"mean": 2, "deviation": 2**0.5, "smallest": 1, "largest": 3, "seeds": 2}
    assert spread["b"]["chat"]["deviation"] == 0
