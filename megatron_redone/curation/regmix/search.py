"""From tables of runs to the mixture for a target, and the files that tell of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from megatron_redone.common.errors import DataError
from megatron_redone.common.files import atomic_write_json, atomic_write_text
from megatron_redone.common.jsonl import write_jsonl
from megatron_redone.config.yaml_document import write_document
from megatron_redone.curation.regmix.config import RegMixFitConfig
from megatron_redone.curation.regmix.regression import Regression, best_mixture, fit, rank_correlation
from megatron_redone.curation.regmix.tables import (
    MIXTURES,
    Table,
    column_called,
    read_losses,
    read_mixtures,
    read_prior,
    write_prior,
    write_table,
)
from megatron_redone.reporting.regmix import (
    PREDICTIONS,
    RESULT,
    RegMixMixture,
    RegMixPrediction,
    RegMixResult,
    RegMixSet,
    SetKind,
)

Floats = npt.NDArray[np.float64]

BLEND, TREES = "blend.yaml", "lightgbm.txt"
BEST, NATURAL, UNIFORM, BEST_MEASURED = "best", "natural", "uniform", "best_measured"


@dataclass(frozen=True)
class Runs:
    """Mixtures of runs and what each is judged by."""

    name: str
    mixtures: Table
    target: Floats
    """[R] weighted mean of the target's columns."""
    weights: dict[str, float]
    """Column of the losses -> its share of the target."""


@dataclass(frozen=True)
class Outcome:
    """What a search found."""

    result: RegMixResult
    predictions: list[RegMixPrediction]
    regression: Regression


def read_runs(config: RegMixFitConfig, mixtures: Path, losses: Path) -> Runs:
    """Tables of mixtures and losses of the same runs.

    Raises:
        DataError: the tables cannot be read, or not together; the target is no column of the losses.
    """
    table = read_mixtures(mixtures, config.sum_tolerance)
    measured = read_losses(losses, table)
    wanted = config.target if isinstance(config.target, dict) else {config.target: 1.0}
    weights: dict[str, float] = {}
    for name, weight in wanted.items():
        column = column_called(name, measured.columns, measured.path)
        weights[column] = weights.get(column, 0.0) + weight / sum(wanted.values())
    shares = np.array([weights.get(column, 0.0) for column in measured.columns])
    return Runs(measured.path.parent.name if losses.is_dir() else losses.stem, table, measured.values @ shares, weights)


def aligned(runs: Runs, columns: tuple[str, ...]) -> Floats:
    """[R, D] the mixtures of test runs in the order of the training runs' domains.

    Raises:
        DataError: other domains.
    """
    table = runs.mixtures
    if set(table.columns) != set(columns):
        difference = sorted(set(table.columns) ^ set(columns))
        raise DataError(
            f"{table.path}: its domains are not those of the training runs ({', '.join(difference[:3])} stands in one "
            "of the tables only); test runs need the same domains"
        )
    return table.values[:, [table.columns.index(column) for column in columns]]


def natural_shares(config: RegMixFitConfig, train: Runs, folder: Path) -> tuple[dict[str, float], str]:
    """Share of each domain by nature, and where it is from.

    Raises:
        DataError: a prior of other domains; a domain that no run tried, where the runs' mean is taken.
    """
    table = train.mixtures
    prior, source = config.prior, "the settings"
    if prior is None:
        prior, source = read_prior(folder), "those that the mixtures were drawn around"
    if prior is None:
        mean = table.values.mean(axis=0)
        prior, source = dict(zip(table.columns, map(float, mean), strict=True)), "the mean of the runs' mixtures"
        untried = [domain for domain, share in prior.items() if share == 0]
        if untried:
            raise DataError(f"{table.path}: no run tried {untried[0]!r}; remove the column, or give `prior`")
    if set(prior) != set(table.columns):
        difference = sorted(set(prior) ^ set(table.columns))
        raise DataError(
            f"prior (from {source}) has other domains than {table.path}: {', '.join(difference[:3])} stands in one of "
            "them only; name the same ones"
        )
    total = sum(prior.values())
    return {domain: prior[domain] / total for domain in table.columns}, source


def search(config: RegMixFitConfig, train: Runs, tests: list[Runs], prior: Mapping[str, float], source: str) -> Outcome:
    """Fits the regression, tests it, and finds the mixture that it predicts to be best."""
    columns = train.mixtures.columns
    test_mixtures = [aligned(runs, columns) for runs in tests]
    first = (test_mixtures[0], tests[0].target) if tests else None
    regression = fit(config, train.mixtures.values, train.target, first)
    prior_D = np.array([prior[domain] for domain in columns])
    candidates = {BEST: best_mixture(config, regression, prior_D), **_compared_with(train, prior_D)}
    predicted = regression.predict(np.stack(list(candidates.values())))
    judged: list[tuple[Runs, Floats, SetKind]] = [(train, regression.out_of_fold, "out of fold")]
    judged += [
        (runs, regression.predict(mixtures), "test") for runs, mixtures in zip(tests, test_mixtures, strict=True)
    ]
    names = _distinct_names([runs.name for runs, _, _ in judged])
    gain = np.asarray(regression.booster.feature_importance("gain", iteration=regression.iterations), dtype=np.float64)
    result = RegMixResult(
        target=train.weights,
        prior=dict(prior),
        prior_from=source,
        num_runs=len(train.target),
        iterations=regression.iterations,
        sets=tuple(
            RegMixSet(
                name=name,
                kind=kind,
                num_runs=len(runs.target),
                spearman=rank_correlation(predictions, runs.target),
                mean_squared_error=float(((predictions - runs.target) ** 2).mean()),
                stopped_on=config.early_stop_on == ("folds" if kind == "out of fold" else "test") and place < 2,
            )
            for place, (name, (runs, predictions, kind)) in enumerate(zip(names, judged, strict=True))
        ),
        mixtures=tuple(
            RegMixMixture(name=name, weights=dict(zip(columns, map(float, mixture), strict=True)), predicted_loss=loss)
            for (name, mixture), loss in zip(candidates.items(), map(float, predicted), strict=True)
        ),
        importance=dict(zip(columns, map(float, gain / max(gain.sum(), 1e-12)), strict=True)),
        settings=config.model_dump(mode="json", include=set(RegMixFitConfig.model_fields) - {"target", "prior"}),
    )
    points = [
        RegMixPrediction(set=name, run=run, measured=float(measured), predicted=float(prediction))
        for name, (runs, predictions, _) in zip(names, judged, strict=True)
        for run, measured, prediction in zip(runs.mixtures.names, runs.target, predictions, strict=True)
    ]
    return Outcome(result, points, regression)


def _compared_with(train: Runs, prior_D: Floats) -> dict[str, Floats]:
    """Mixtures that the best predicted one has to beat: natural, even, the best measured one, target domains alone."""
    table = train.mixtures
    size = len(table.columns)
    found = {
        NATURAL: prior_D,
        UNIFORM: np.full(size, 1 / size),
        BEST_MEASURED: table.values[int(np.argmin(train.target))] / table.values[int(np.argmin(train.target))].sum(),
    }
    for place, domain in enumerate(table.columns):
        if any(domain in column for column in train.weights):
            found[f"only_{domain}"] = np.eye(size)[place]
    return found


def _distinct_names(names: list[str]) -> list[str]:
    return [f"{name} ({place})" if names.count(name) > 1 else name for place, name in enumerate(names)]


def write_outcome(folder: Path, outcome: Outcome, provenance: Mapping[str, Any]) -> None:
    """The result files, the table of named mixtures for a comparison, and the blend file of the best one."""
    result = outcome.result
    atomic_write_json(folder / RESULT, result.model_dump(mode="json"))
    write_jsonl(folder / PREDICTIONS, (point.model_dump() for point in outcome.predictions))
    columns = list(result.prior)
    weights = np.array([[mixture.weights[domain] for domain in columns] for mixture in result.mixtures])
    write_table(folder / MIXTURES, [mixture.name for mixture in result.mixtures], columns, weights)
    write_prior(folder, result.prior)
    outcome.regression.booster.save_model(str(folder / TREES), num_iteration=result.iterations)
    predicted = {mixture.name: round(mixture.predicted_loss, 6) for mixture in result.mixtures}
    blend = {
        "weights": {domain: weight for domain, weight in result.mixtures[0].weights.items() if weight > 0},
        "provenance": {
            "method": "regmix",
            "target": result.target,
            "predicted_loss": predicted,
            "natural": {domain: round(share, 6) for domain, share in result.prior.items()},
            "num_runs": result.num_runs,
            "spearman": {table.name: round(table.spearman, 4) for table in result.sets},
            **provenance,
        },
    }
    atomic_write_text(folder / BLEND, write_document(blend))
