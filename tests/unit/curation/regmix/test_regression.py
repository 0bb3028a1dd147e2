from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import spearmanr

from megatron_redone.common.errors import DataError
from megatron_redone.common.seeding import numpy_rng
from megatron_redone.curation.regmix.config import RegMixFitConfig, RegMixMixturesConfig
from megatron_redone.curation.regmix.regression import (
    best_mixture,
    fit,
    lightgbm_parameters,
    rank_correlation,
    stopping_point,
)
from megatron_redone.curation.regmix.sampling import Floats, sample_mixtures

PRIOR = np.array([0.5, 0.3, 0.15, 0.05])
OPTIMUM = np.array([0.1, 0.2, 0.6, 0.1])


def planted(num_runs: int, seed: int = 1, noise: float = 0.0) -> tuple[Floats, Floats]:
    """Mixtures, and losses that grow with the squared distance from OPTIMUM."""
    config = RegMixMixturesConfig(num_mixtures=num_runs, sampling_seed=seed, temperature=1.0)
    mixtures = sample_mixtures(config, PRIOR)
    losses = 3 + ((mixtures - OPTIMUM) ** 2).sum(axis=1)
    return mixtures, losses + noise * numpy_rng(seed, "noise").normal(size=num_runs)


def test_published_settings() -> None:
    config = RegMixFitConfig(target="x")
    assert (config.learning_rate, config.iterations, config.early_stop_rounds, config.fit_seed) == (0.01, 1000, 3, 42)
    assert (config.num_samples, config.num_best) == (100_000, 128)
    assert (config.num_leaves, config.min_runs_in_leaf) == (31, 20)
    given = lightgbm_parameters(config)
    assert (given["boosting"], given["objective"], given["seed"]) == ("gbdt", "regression", 42)
    assert (given["deterministic"], given["force_row_wise"], given["num_threads"]) == (True, True, 1)


@pytest.mark.parametrize("stop_on", ["folds", "test", "none"])
def test_a_planted_optimum_is_found(stop_on: str) -> None:
    config = RegMixFitConfig(target="x", early_stop_on=stop_on, min_runs_in_leaf=5, num_samples=10_000, iterations=400)  # type: ignore[arg-type]
    mixtures, losses = planted(300)
    test_mixtures, test_losses = planted(100, seed=2)
    regression = fit(config, mixtures, losses, (test_mixtures, test_losses))
    assert rank_correlation(regression.predict(test_mixtures), test_losses) > 0.95
    assert rank_correlation(regression.out_of_fold, losses) > 0.95
    found = best_mixture(config, regression, PRIOR)
    assert np.abs(found - OPTIMUM).max() < 0.1
    assert np.abs(found - PRIOR).max() > 0.35, "far from where the search begins"
    assert round(found.sum(), 12) == 1 and np.allclose(found / config.unit, np.round(found / config.unit))


def test_equal_inputs_give_equal_trees_and_answers() -> None:
    config = RegMixFitConfig(target="x", num_samples=5000)
    mixtures, losses = planted(120, noise=0.01)
    first, second = (fit(config, mixtures, losses, None) for _ in range(2))
    assert first.booster.model_to_string() == second.booster.model_to_string()
    np.testing.assert_array_equal(best_mixture(config, first, PRIOR), best_mixture(config, second, PRIOR))
    other = config.model_copy(update={"fit_seed": 43})
    assert not np.array_equal(fit(other, mixtures, losses, None).out_of_fold, first.out_of_fold)


def test_stopping_on_folds_looks_at_no_test_run() -> None:
    config = RegMixFitConfig(target="x")
    mixtures, losses = planted(120, noise=0.01)
    without = fit(config, mixtures, losses, None)
    with_test = fit(config, mixtures, losses, (mixtures[:9], np.zeros(9)))
    assert without.booster.model_to_string() == with_test.booster.model_to_string()


def test_stopping_agrees_with_lightgbm() -> None:
    import lightgbm as lgb

    mixtures, losses = planted(200, noise=0.05)
    test_mixtures, test_losses = planted(60, seed=2, noise=0.05)
    config = RegMixFitConfig(target="x", early_stop_on="test")
    ours = fit(config, mixtures, losses, (test_mixtures, test_losses))
    theirs = lgb.train(
        lightgbm_parameters(config),
        lgb.Dataset(mixtures, losses),
        num_boost_round=1000,
        valid_sets=[lgb.Dataset(test_mixtures, test_losses)],
        callbacks=[lgb.early_stopping(3, verbose=False)],
    )
    assert ours.iterations == theirs.best_iteration < 1000
    np.testing.assert_array_equal(ours.predict(test_mixtures), theirs.predict(test_mixtures))


@pytest.mark.parametrize(
    ("curves", "trees"),
    [
        ([[5, 4, 3, 2, 1]], 5),
        ([[5, 4, 3, 3, 3, 3, 1]], 3),
        ([[5, 4, 3, 4, 4, 2, 1]], 7),
        ([[5, 4, 3, 2, 1, 0.9, 0.8], [5, 4, 9, 9, 9, 1, 1]], 2),
        ([[1, 2, 3]], 1),
    ],
)
def test_the_first_error_that_no_longer_falls_stops(curves: list[list[float]], trees: int) -> None:
    assert stopping_point(np.array(curves), 3) == trees


def test_rank_correlation_is_scipys_and_zero_without_order() -> None:
    random = np.random.default_rng(3)
    left, right = random.normal(size=40).round(1), random.normal(size=40).round(1)
    assert rank_correlation(left, right) == pytest.approx(spearmanr(left, right).statistic, abs=1e-15)
    assert rank_correlation(np.exp(left), left) == pytest.approx(1)
    assert rank_correlation(np.ones(40), right) == 0.0


def test_a_fit_that_cannot_split_is_refused() -> None:
    mixtures, losses = planted(30)
    with pytest.raises(DataError, match="min_runs_in_leaf=20"):
        fit(RegMixFitConfig(target="x"), mixtures, losses, None)
    assert fit(RegMixFitConfig(target="x", min_runs_in_leaf=3), mixtures, losses, None).iterations > 1
    with pytest.raises(DataError, match="8 runs for num_folds=5"):
        fit(RegMixFitConfig(target="x"), mixtures[:8], losses[:8], None)
