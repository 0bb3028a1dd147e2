"""From mixtures and losses to the mixture that is predicted best (RegMix, Liu et al. 2024, sections 3.2 and 3.3).

LightGBM is imported where it is used. One thread, rows in order: equal inputs give equal trees.

Shape legend: R training runs, D domains.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from megatron_redone.common.errors import DataError
from megatron_redone.common.seeding import numpy_rng
from megatron_redone.curation.regmix.config import RegMixFitConfig
from megatron_redone.curation.regmix.sampling import rounded_units

Floats = npt.NDArray[np.float64]

SAMPLES_AT_A_TIME = 10_000


@dataclass(frozen=True)
class Regression:
    """A fitted regression.

    Attributes:
        booster: LightGBM's model, fitted on all training runs.
        iterations: trees of it that count.
        out_of_fold: [R] predicted losses of the training runs, each by trees that did not see it.
    """

    booster: Any
    iterations: int
    out_of_fold: Floats

    def predict(self, mixtures_ND: Floats) -> Floats:
        """[N] predicted losses."""
        return np.asarray(self.booster.predict(mixtures_ND, num_iteration=self.iterations), dtype=np.float64)


def fit(
    config: RegMixFitConfig, mixtures_RD: Floats, losses_R: Floats, test: tuple[Floats, Floats] | None
) -> Regression:
    """Boosted trees of the loss.

    The number of trees is the one after which an error has stopped falling: that on `test`, or the mean over all runs
    of a cross-validation inside the training runs.

    Args:
        test: mixtures and losses of the runs to stop on; needed for `early_stop_on: test`, else not looked at.

    Raises:
        DataError: too few runs for the folds, or for a tree to split them.
    """
    if len(losses_R) < 2 * config.num_folds:
        raise DataError(f"{len(losses_R)} runs for num_folds={config.num_folds}; make more runs, or lower num_folds")
    folds = _Folds(config, mixtures_RD, losses_R)
    iterations = folds.iterations() if config.early_stop_on == "folds" else config.iterations
    if config.early_stop_on == "test":
        assert test is not None
        booster, curves = _train(config, (mixtures_RD, losses_R), test, iterations)
        iterations = stopping_point(curves, config.early_stop_rounds)
    else:
        booster, _ = _train(config, (mixtures_RD, losses_R), None, iterations)
    if len(np.unique(booster.predict(mixtures_RD, num_iteration=iterations))) == 1:
        raise DataError(
            f"one loss is predicted for all {len(losses_R)} runs: min_runs_in_leaf={config.min_runs_in_leaf} let none "
            "of the trees split them, or the losses do not depend on the mixture; lower it, or make more runs"
        )
    return Regression(booster, iterations, folds.predictions(iterations))


class _Folds:
    """The cross-validation: a model for each fold, trained without it on all iterations."""

    def __init__(self, config: RegMixFitConfig, mixtures_RD: Floats, losses_R: Floats) -> None:
        self.config, self.mixtures = config, mixtures_RD
        order = numpy_rng(config.fit_seed, "regmix folds").permutation(len(losses_R))
        self.fold_R = np.empty(len(losses_R), dtype=np.int64)
        self.fold_R[order] = np.arange(len(losses_R)) % config.num_folds
        self.boosters: list[Any] = []
        self.curves: list[Floats] = []
        for fold in range(config.num_folds):
            seen, unseen = self.fold_R != fold, self.fold_R == fold
            booster, curves = _train(
                config, (mixtures_RD[seen], losses_R[seen]), (mixtures_RD[unseen], losses_R[unseen]), config.iterations
            )
            self.boosters.append(booster)
            self.curves.append(curves)

    def iterations(self) -> int:
        """Where an error, as a mean over all runs, stops falling."""
        means = np.average(self.curves, axis=0, weights=np.bincount(self.fold_R))
        return stopping_point(means, self.config.early_stop_rounds)

    def predictions(self, iterations: int) -> Floats:
        """[R] each run by the model of its fold."""
        found = np.empty(len(self.fold_R))
        for fold, booster in enumerate(self.boosters):
            unseen = self.fold_R == fold
            found[unseen] = booster.predict(self.mixtures[unseen], num_iteration=iterations)
        return found


def _train(
    config: RegMixFitConfig, train: tuple[Floats, Floats], watched: tuple[Floats, Floats] | None, iterations: int
) -> tuple[Any, Floats]:
    """A booster, and [errors, trees] each error on `watched` after each of its trees."""
    import lightgbm as lgb

    data = lgb.Dataset(*train)
    record: dict[str, dict[str, list[float]]] = {}
    booster = lgb.train(
        lightgbm_parameters(config),
        data,
        num_boost_round=iterations,
        valid_sets=[] if watched is None else [lgb.Dataset(*watched, reference=data)],
        valid_names=[] if watched is None else ["watched"],
        callbacks=[lgb.record_evaluation(record)],
    )
    return booster, np.array(
        [] if watched is None else [record["watched"][error] for error in config.early_stop_errors]
    )


def lightgbm_parameters(config: RegMixFitConfig) -> dict[str, Any]:
    """What LightGBM is given."""
    return {
        "boosting": "gbdt",
        "objective": "regression",
        "metric": list(config.early_stop_errors),
        "learning_rate": config.learning_rate,
        "num_leaves": config.num_leaves,
        "min_data_in_leaf": config.min_runs_in_leaf,
        "seed": config.fit_seed,
        "deterministic": True,
        "force_row_wise": True,
        "num_threads": 1,
        "verbosity": -1,
    }


def stopping_point(curves: Floats, rounds: int) -> int:
    """Trees to keep of [errors, trees], as LightGBM's early stopping on several errors counts them.

    The first error that none of `rounds` trees improves ends the boosting; its best tree is the last one that counts.
    Where none stops, the best tree of the first error is.
    """
    best = [0] * len(curves)
    for tree in range(curves.shape[1]):
        for place, curve in enumerate(curves):
            if curve[tree] < curve[best[place]]:
                best[place] = tree
            elif tree - best[place] >= rounds:
                return best[place] + 1
    return best[0] + 1


def rank_correlation(predicted: Floats, measured: Floats) -> float:
    """Spearman's rank correlation; 0 where one side is constant, so that it has no order to agree with."""
    from scipy.stats import spearmanr

    if len(np.unique(predicted)) < 2 or len(np.unique(measured)) < 2:
        return 0.0
    return float(spearmanr(predicted, measured).statistic)


def best_mixture(config: RegMixFitConfig, regression: Regression, prior_D: Floats) -> Floats:
    """[D] the mean of the `num_best` mixtures predicted best among `num_samples` draws from Dirichlet(prior).

    Rounded to multiples of `unit` that add up to 1.
    """
    kept, losses = np.empty((0, len(prior_D))), np.empty(0)
    for number, first in enumerate(range(0, config.num_samples, SAMPLES_AT_A_TIME)):
        random = numpy_rng(config.fit_seed, "regmix simulation", number)
        drawn = random.dirichlet(prior_D / prior_D.sum(), min(SAMPLES_AT_A_TIME, config.num_samples - first))
        kept, losses = np.concatenate([kept, drawn]), np.concatenate([losses, regression.predict(drawn)])
        order = np.argsort(losses, kind="stable")[: config.num_best]
        kept, losses = kept[order], losses[order]
    num_units = round(1 / config.unit)
    return rounded_units(kept.mean(axis=0), num_units) / num_units
