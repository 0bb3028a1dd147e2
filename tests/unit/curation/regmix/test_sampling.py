from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from megatron_redone.common.errors import InputError
from megatron_redone.config.base import RuleViolations
from megatron_redone.curation.regmix.config import RegMixMixturesConfig
from megatron_redone.curation.regmix.sampling import rounded_units, sample_mixtures

PRIOR = np.array([0.6, 0.3, 0.09, 0.01])


def test_published_settings() -> None:
    config = RegMixMixturesConfig()
    assert (config.temperature, config.max_over_prior, config.unit, config.sampling_seed) == (0.5, 15.0, 2e-4, 42)
    assert (config.min_strength, config.max_strength, config.num_strengths) == (0.1, 5.0, 15)
    assert config.num_mixtures == 512


def test_mixtures_are_different_multiples_of_the_unit_that_add_up_to_one() -> None:
    found = sample_mixtures(RegMixMixturesConfig(num_mixtures=300), PRIOR)
    assert found.shape == (300, 4)
    units = found / 2e-4
    np.testing.assert_allclose(units, np.round(units), atol=1e-9)
    assert set(np.round(units).astype(int).sum(axis=1)) == {5000}
    assert len({row.tobytes() for row in found}) == 300


def test_no_domain_gets_more_than_fifteen_times_its_natural_share() -> None:
    config = RegMixMixturesConfig(num_mixtures=400)
    found = sample_mixtures(config, PRIOR)
    assert found[:, 3].max() <= 15 * PRIOR[3] + config.unit  # rounding may add a unit
    free = sample_mixtures(config.model_copy(update={"max_over_prior": 1e9}), PRIOR)
    assert free[:, 3].max() > 0.5, "without the rule such mixtures are drawn: the rule rejects them"


def test_the_seed_decides() -> None:
    config = RegMixMixturesConfig(num_mixtures=20)
    first = sample_mixtures(config, PRIOR)
    np.testing.assert_array_equal(first, sample_mixtures(config, 1000 * PRIOR))
    assert not np.array_equal(first, sample_mixtures(config.model_copy(update={"sampling_seed": 43}), PRIOR))
    more = sample_mixtures(config.model_copy(update={"num_mixtures": 30}), PRIOR)
    np.testing.assert_array_equal(first, more[:20])


def test_the_tempered_prior_is_the_mean_of_unrejected_draws() -> None:
    config = RegMixMixturesConfig(num_mixtures=4000, max_over_prior=1e9, min_strength=5.0)  # few equal ones
    tempered = PRIOR**0.5 / (PRIOR**0.5).sum()
    np.testing.assert_allclose(sample_mixtures(config, PRIOR).mean(axis=0), tempered, atol=0.01)


def test_equal_mixtures_count_once() -> None:
    config = RegMixMixturesConfig(num_mixtures=11, unit=0.1, max_over_prior=1e9)
    found = sample_mixtures(config, np.array([0.5, 0.5]))
    assert sorted(found[:, 0].round(1)) == [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]
    with pytest.raises(InputError, match=r"num_mixtures=12: .* gave 11 different"):
        sample_mixtures(config.model_copy(update={"num_mixtures": 12}), np.array([0.5, 0.5]))


@given(st.lists(st.floats(0, 1), min_size=2, max_size=9).filter(lambda w: sum(w) > 1e-3), st.integers(1, 5000))
@settings(max_examples=100)
def test_rounding_keeps_the_sum_and_moves_no_weight_by_a_unit(weights: list[float], num_units: int) -> None:
    array = np.array(weights)
    units = rounded_units(array, num_units)
    assert units.sum() == num_units
    assert (np.abs(units - array / array.sum() * num_units) < 1).all()
    assert (units >= 0).all()


@pytest.mark.parametrize(
    ("settings_", "rule"),
    [
        ({"min_strength": 6.0}, "min_strength=6.0 is above max_strength"),
        ({"unit": 0.0003}, "1 is no multiple"),
        ({"prior": {"a": 1.0}}, "needs two at least"),
        ({"prior": {"a": 1.0, "b": 0.0}}, "shares are above 0"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings_: dict[str, object], rule: str) -> None:
    with pytest.raises((RuleViolations, ValueError), match=rule):
        RegMixMixturesConfig(**settings_)  # type: ignore[arg-type]
