"""The ablation file: a base recipe, arms that change its stages, and what is reported of them. Imports no torch."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import Field

from megatron_redone.config.base import StrictModel
from megatron_redone.recipes.stage_config import EvaluationConfig

NAME = re.compile(r"[A-Za-z0-9_]+")


class ArmConfig(StrictModel):
    """One way through the recipe: what differs from the base, and the stage whose model is scored.

    The changes are made in this order: `remove`, `change`, `add`. Stages that the result does not need are left out.
    """

    title: str = ""
    """How tables and charts call the arm; unset: its name."""
    result: str
    """The stage whose model stands for the arm."""
    remove: tuple[str, ...] = ()
    """Stages that are taken out. What read one's model (in a field `model`) reads the model that it started from."""
    change: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Stage -> settings laid over its own; `model: warmup` rewires it."""
    add: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Further stages, each with its `kind`."""


class GroupConfig(StrictModel):
    """Tasks whose plain mean is one column of the table."""

    title: str = ""
    capabilities: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    held_out: tuple[str, ...] = ()
    """Only tasks of these held-out sets; empty: of all."""
    but_capabilities: tuple[str, ...] = ()
    """Everything but these capabilities, where neither `capabilities` nor `tasks` says what."""

    def rule_violations(self) -> Iterator[str]:
        """Either what is in, or what is out."""
        if self.but_capabilities and (self.capabilities or self.tasks):
            yield f"but_capabilities={list(self.but_capabilities)} beside capabilities or tasks; give one of them"


DEFAULT_GROUPS = {"sns": GroupConfig(but_capabilities=("general",)), "general": GroupConfig(capabilities=("general",))}


class ClaimConfig(StrictModel):
    """An order that a paper reports: whether it shows here is said in the result."""

    better: str
    than: str
    group: str
    source: str
    """Where it is claimed, with the paper's figures."""


class PaperConfig(StrictModel):
    """The paper's table, shown beside ours. Other models, other data: levels do not compare, orders may."""

    source: str
    columns: tuple[str, ...] = Field(min_length=1)
    arms: dict[str, tuple[float | None, ...]]
    """Arm of this file, or the name of a row that no arm has -> a figure a column."""

    def rule_violations(self) -> Iterator[str]:
        """A figure a column."""
        for arm, figures in self.arms.items():
            if len(figures) != len(self.columns):
                yield f"arms: {arm} has {len(figures)} figures for {len(self.columns)} columns; null where it has none"


class AblationConfig(StrictModel):
    """A whole ablation."""

    name: str
    output: Path
    """Folder of the run: one folder a stage, shared by all arms that have it."""
    recipe: Path
    """The base recipe, relative to this file. Paths in arms are relative to the recipe."""
    settings: dict[str, Any] = Field(default_factory=dict)
    """Laid over the recipe for all arms: `{workers: 1, stages: {explore: {num_rollouts: 4}}}`."""
    seeds: tuple[int, ...] = Field((1, 2, 3), min_length=1)
    """Seeds of the stages that run once per seed."""
    baseline: str
    """The arm that the others stand against."""
    arms: dict[str, ArmConfig] = Field(min_length=2)
    held_out: dict[str, EvaluationConfig | None] = Field(default={"own": None})
    """Rows that every arm's model answers, by name; null: those that the result stage answers anyway (`evaluate`)."""
    groups: dict[str, GroupConfig] = Field(default_factory=lambda: dict(DEFAULT_GROUPS))
    """Columns of the table: by default `sns`, all capabilities but general, and `general`."""
    seesaw: tuple[str, str] | None = ("sns", "general")
    """The groups whose gain and loss are drawn against each other."""
    claims: tuple[ClaimConfig, ...] = ()
    paper: PaperConfig | None = None
    num_resamples: int = Field(1000, ge=100)
    """Draws of the bootstrap over rows and seeds."""
    notes: tuple[str, ...] = ()
    """Licences and limits, printed at the end of the report."""

    def rule_violations(self) -> Iterator[str]:
        """Names that fit into folder names; arms and groups that are there."""
        for name in (*self.arms, *self.held_out, *self.groups):
            if not NAME.fullmatch(name):
                yield f"the name {name!r} must be of letters, digits and _, since folders are named by it; use `title`"
        for field, arm in (("baseline", self.baseline), *(("claims", c.better) for c in self.claims)):
            yield from self._unknown(field, arm, self.arms)
        for claim in self.claims:
            yield from self._unknown("claims", claim.than, self.arms)
            yield from self._unknown("claims", claim.group, self.groups)
        for group in self.seesaw or ():
            yield from self._unknown("seesaw", group, self.groups)
        for name, of_group in self.groups.items():
            for held_out in of_group.held_out:
                yield from self._unknown(f"groups.{name}.held_out", held_out, self.held_out)
        if len(set(self.seeds)) < len(self.seeds):
            yield f"seeds={list(self.seeds)} has repeats; each seed once"

    @staticmethod
    def _unknown(field: str, name: str, known: dict[str, Any]) -> Iterator[str]:
        if name not in known:
            yield f"{field}={name!r} is not there; known: {', '.join(known) or 'none'}"
