"""Settings of RegMix (Liu et al. 2024): mixtures, proxy runs, regression. Imports no torch.

Defaults are the published ones where they are published; others say "ours".
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from megatron_redone.common.errors import InputError
from megatron_redone.config.base import StrictModel
from megatron_redone.models.config import ModelConfig
from megatron_redone.models.presets import get_preset
from megatron_redone.training.config import OptimizerConfig

UNIT = 2e-4
"""Smallest weight of a domain that counts; weights are multiples of it."""


class RegMixMixturesConfig(StrictModel):
    """Which mixtures the proxy runs try."""

    num_mixtures: int = Field(512, ge=2)
    """So many different mixtures (published: 512)."""
    prior: dict[str, float] | None = None
    """Natural share of each domain in any unit (tokens, weights): `{weibo: 120000, web: 3000000}`. Instead of
    `domains`, whose tokens are counted."""
    temperature: float = Field(0.5, gt=0, le=1)
    """The prior is raised to this power before mixtures are drawn around it: small domains are tried more often."""
    min_strength: float = Field(0.1, gt=0)
    """Mixtures are Dirichlet(strength * tempered prior). A small strength gives mixtures of few domains."""
    max_strength: float = Field(5.0, gt=0)
    """A large strength gives mixtures near the prior."""
    num_strengths: int = Field(15, ge=1)
    """Each mixture draws its strength from so many values, evenly spaced on a log scale."""
    max_over_prior: float = Field(15.0, gt=1)
    """A mixture that gives a domain more than so many times its natural share is rejected: trained at the size of the
    natural corpus, it would read the domain so often."""
    unit: float = Field(UNIT, gt=0, le=0.1)
    """Smaller weights become 0; all are multiples of it."""
    sampling_seed: int = 42
    """Seed of the mixtures, apart from the recipe's: they are the design of one experiment."""

    def rule_violations(self) -> Iterator[str]:
        """Strengths in order; units that make up a whole; a prior of shares."""
        if self.min_strength > self.max_strength:
            yield f"min_strength={self.min_strength} is above max_strength={self.max_strength}; exchange them"
        yield from unit_problems(self.unit)
        if self.prior is not None:
            yield from prior_problems(self.prior)


def unit_problems(unit: float) -> Iterator[str]:
    """A whole is made of units."""
    if abs(round(1 / unit) * unit - 1) > 1e-9:
        yield f"unit={unit}: 1 is no multiple of it; give a unit like 2e-4, 1e-3 or 0.01"


def prior_problems(prior: dict[str, float]) -> Iterator[str]:
    """Positive shares of two or more domains."""
    if len(prior) < 2:
        yield f"prior has {len(prior)} domain(s); a mixture needs two at least"
    for name, share in prior.items():
        if share <= 0:
            yield f"prior gives {name!r} the share {share}; shares are above 0, leave out a domain that has none"


class RegMixProxiesConfig(StrictModel):
    """One small training run for each mixture. The published proxies have 1M parameters and see 1B tokens."""

    model: ModelConfig = ModelConfig(preset="proxy-1m")
    """Shape of the proxies, or a checkpoint that all of them start from."""
    sequence_length: int = Field(2048, ge=8)
    """Tokens of a row; a row holds documents of one domain."""
    global_batch_size: int = Field(512, ge=1)
    """Rows of an optimizer step."""
    steps: int = Field(1000, ge=1)
    """Optimizer steps of each run. With the defaults 1B tokens."""
    optimizer: OptimizerConfig = OptimizerConfig(lr=4e-4, weight_decay=0.1, warmup_ratio=0.04, min_lr_ratio=0.1)
    """Ours, as far as it goes beyond the learning rate."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Data type of weights and activations."""
    validation_rows: int | None = Field(None, ge=1)
    """At most so many rows of each validation corpus are measured; null: all of it."""
    num_seeds: int = Field(1, ge=1)
    """Each mixture is trained from so many seeds. A seed fixes weights and order of data, equal for all mixtures."""
    workers: int = Field(1, ge=1)
    """Runs side by side, each in a process of its own."""
    part: str | None = None
    """`3/16` trains every 16th run from the third on (places from 0): one task of a Slurm array."""

    def rule_violations(self) -> Iterator[str]:
        """A known preset; a part of a whole."""
        if self.model.preset is not None:
            try:
                get_preset(self.model.preset)
            except InputError as error:
                yield str(error)
        if self.part is not None:
            match = re.fullmatch(r"(\d+)/(\d+)", self.part)
            if match is None or int(match[1]) >= int(match[2]):
                yield f"part={self.part!r} must be PLACE/PARTS with PLACE from 0 to PARTS - 1, for example 3/16"

    def share_of(self) -> tuple[int, int]:
        """(place, parts) of `part`; the whole is (0, 1)."""
        place, _, parts = (self.part or "0/1").partition("/")
        return int(place), int(parts)


class RegMixFitConfig(StrictModel):
    """The regression from mixture to loss, and the search for the best mixture."""

    target: str | dict[str, float]
    """Column of the losses that is to be small, or several with weights: `{weibo: 1, chat: 0.5}`. A part of a column's
    name will do where it stands in one column only."""
    prior: dict[str, float] | None = None
    """Natural share of each domain. By default what `regmix-mixtures` wrote beside the mixtures; where nothing stands
    there, the mean of the mixtures."""
    learning_rate: float = Field(0.01, gt=0)
    """Of the boosting."""
    iterations: int = Field(1000, ge=1)
    """At most so many trees."""
    early_stop_rounds: int = Field(3, ge=1)
    """Boosting stops when an error has not fallen for so many trees."""
    early_stop_errors: tuple[Literal["l1", "l2"], ...] = Field(("l1", "l2"), min_length=1)
    """The errors, absolute and squared: the first one that no longer falls stops (as the published code does)."""
    early_stop_on: Literal["folds", "test", "none"] = "folds"
    """Where they are measured. `folds`: cross-validation inside the training runs, which touches no test run
    (ours). `test`: the first of the test tables, as published. `none`: all trees are kept."""
    num_folds: int = Field(5, ge=2)
    """Folds of the cross-validation, whose rank correlation is reported in any case."""
    num_leaves: int = Field(31, ge=2)
    """Leaves of a tree (LightGBM's default, as published)."""
    min_runs_in_leaf: int = Field(20, ge=1)
    """Training runs in a leaf at least (LightGBM's default, as published). For fewer than 100 runs take 2 to 5."""
    fit_seed: int = 42
    """Seed of LightGBM, of the folds and of the simulated mixtures."""
    num_samples: int = Field(100_000, ge=1)
    """Simulated mixtures, drawn from Dirichlet(prior)."""
    num_best: int = Field(128, ge=1)
    """The answer is the mean of so many of them, the ones predicted best."""
    unit: float = Field(UNIT, gt=0, le=0.1)
    """The answer's weights are multiples of it."""
    sum_tolerance: float = Field(0.005, ge=0, lt=0.1)
    """So far from 1 the weights of a mixture may add up (the published ones are rounded to 0.001)."""

    def rule_violations(self) -> Iterator[str]:
        """No more best ones than there are; weights that weigh."""
        if self.num_best > self.num_samples:
            yield f"num_best={self.num_best} is above num_samples={self.num_samples}; lower it"
        yield from unit_problems(self.unit)
        if isinstance(self.target, dict):
            if not self.target:
                yield "target={} names no column; name one at least"
            for name, weight in self.target.items():
                if weight <= 0:
                    yield f"target gives {name!r} the weight {weight}; weights are above 0, leave the column out"
        if self.prior is not None:
            yield from prior_problems(self.prior)
