"""Mixtures to try, drawn as RegMix draws them (Liu et al. 2024, section 3.1 and the published code).

Departures: rounding keeps the sum at exactly 1 (largest remainders), where the published code rounds each weight by
itself; and mixtures are drawn until there are enough different ones, where it draws a hundred times as many and picks.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from megatron_redone.common.errors import InputError
from megatron_redone.common.seeding import numpy_rng
from megatron_redone.curation.regmix.config import RegMixMixturesConfig

Floats = npt.NDArray[np.float64]

DRAWS_AT_A_TIME = 4096
MAX_DRAWS_PER_MIXTURE = 10_000
"""When so many draws for each wanted mixture do not give enough, the settings leave no room for them."""


def sample_mixtures(config: RegMixMixturesConfig, prior: Floats) -> Floats:
    """Different mixtures as rows, in the order they were drawn.

    A row is a draw from Dirichlet(strength * prior^temperature / sum), the strength chosen evenly among log-spaced
    values. It is rejected when a weight is above min(max_over_prior * prior, 1); weights below `unit` become 0, the
    rest is scaled to 1 and rounded to multiples of `unit`.

    Args:
        prior: [D] natural shares in any unit, all above 0.

    Returns:
        [num_mixtures, D], multiples of `unit`, each row adds up to 1.

    Raises:
        InputError: the settings do not leave room for so many different mixtures.
    """
    natural = prior / prior.sum()
    tempered = natural**config.temperature
    tempered /= tempered.sum()
    limits = np.minimum(config.max_over_prior * natural, 1.0)
    strengths = np.geomspace(config.min_strength, config.max_strength, config.num_strengths)
    num_units = round(1 / config.unit)
    found: dict[bytes, npt.NDArray[np.int64]] = {}
    num_draws = -(-MAX_DRAWS_PER_MIXTURE * config.num_mixtures // DRAWS_AT_A_TIME)
    for number in range(num_draws):
        random = numpy_rng(config.sampling_seed, "regmix mixtures", number)
        for weights in _draws(random, tempered, strengths):
            if (weights > limits).any():
                continue
            units = rounded_units(np.where(weights < config.unit, 0.0, weights), num_units)
            found.setdefault(units.tobytes(), units)
            if len(found) == config.num_mixtures:
                return np.stack(list(found.values())) / num_units
    raise InputError(
        f"num_mixtures={config.num_mixtures}: {num_draws * DRAWS_AT_A_TIME:,} draws gave {len(found)} different "
        f"mixtures that keep max_over_prior={config.max_over_prior}; lower num_mixtures or unit, or raise "
        "max_over_prior"
    )


def _draws(random: np.random.Generator, tempered: Floats, strengths: Floats) -> Floats:
    """[DRAWS_AT_A_TIME, D] Dirichlet draws, each with a strength of its own; those that underflow are left out."""
    chosen = random.choice(strengths, DRAWS_AT_A_TIME)
    gammas = random.standard_gamma(chosen[:, None] * tempered)
    sums = gammas.sum(axis=1, keepdims=True)
    return np.asarray(gammas[sums[:, 0] > 0] / sums[sums > 0][:, None])


def rounded_units(weights: Floats, num_units: int) -> npt.NDArray[np.int64]:
    """[D] whole units that add up to `num_units`, each less than one unit from weights / sum (largest remainders)."""
    exact = weights / weights.sum() * num_units
    units: npt.NDArray[np.int64] = np.floor(exact).astype(np.int64)
    remainders = np.argsort(-(exact - units), kind="stable")
    units[remainders[: num_units - int(units.sum())]] += 1
    return units
