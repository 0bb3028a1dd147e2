"""Settings of blends of corpora. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import Field

from megatron_redone.config.artefact import Artefact, OptionalArtefact
from megatron_redone.config.base import StrictModel


class BlendPhaseConfig(StrictModel):
    """Weights that hold from a sample on, until the next phase begins."""

    from_sample: int = Field(0, ge=0)
    """Number of the first sample (row of `sequence_length` tokens, counted from 0 over the run) of the phase."""
    weights: dict[str, float] | None = None
    """Share of each corpus in any unit; one that is not named gives nothing in this phase."""
    weights_from: OptionalArtefact = None
    """Instead of `weights`: a JSON or YAML file `{corpus: weight}`, or a folder or stage with a `blend.yaml`."""

    def rule_violations(self) -> Iterator[str]:
        """One source of weights, none negative, one above 0."""
        if (self.weights is None) == (self.weights_from is None):
            yield f"weights={self.weights} and weights_from={self.weights_from}: give exactly one of them"
            return
        values = [1.0] if self.weights is None else list(self.weights.values())
        if min(values, default=-1) < 0 or not any(values):
            yield f"weights={self.weights}: none may be below 0, and one must be above"


class BlendConfig(StrictModel):
    """Several tokenized corpora in given shares."""

    corpora: dict[str, Artefact] = Field(min_length=1)
    """Name of a corpus -> its tokens (a stage `tokenize`, or a folder)."""
    phases: tuple[BlendPhaseConfig, ...] = Field(min_length=1)
    """The first from sample 0. Phases that a checkpoint has not reached may be changed or added at a resume."""
    max_epochs: float | None = Field(None, gt=0)
    """A run that would go through a corpus more often is refused before it begins; null: any number of times."""

    def rule_violations(self) -> Iterator[str]:
        """Phases in order, and weights for corpora that are there."""
        starts = [phase.from_sample for phase in self.phases]
        if starts[:1] != [0] or sorted(set(starts)) != starts:
            yield f"phases from samples {starts}: the first begins at 0, each later one after the one before"
        for number, phase in enumerate(self.phases):
            if unknown := sorted(set(phase.weights or ()) - set(self.corpora)):
                yield f"phases.{number}.weights name {unknown}, but corpora are {list(self.corpora)}; use these names"
