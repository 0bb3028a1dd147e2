"""Settings of SFT sets: what goes in, in which shares, and the two steps of RedOne. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from megatron_redone.config.base import StrictModel

InputFormat = Literal["auto", "openai", "alpaca", "sharegpt", "task_row"]


class MixConfig(StrictModel):
    """How many rows of what a set holds. A share is a share of the set's rows."""

    num_rows: int | None = Field(None, ge=1)
    """Rows of the set; unset: all SNS rows, and the general rows that `general_share` or `general_rows` asks for."""
    general_share: float | None = Field(None, ge=0, lt=1)
    """Share of general rows; unset: `general_rows`, or as many as there are."""
    general_rows: int | None = Field(None, ge=0)
    """So many general rows; unset: by `general_share`, or as many as there are."""
    rows_per_task: int | None = Field(None, ge=1)
    """At most so many rows of each SNS task, evenly over languages; unset sets no bound."""
    task_balance: float = Field(0.5, ge=0, le=1)
    """Where fewer rows are taken than there are, a task gets rows in proportion to its number of rows (the sum of
    their weights) to this power: 1 is natural, 0.5 square root, 0 the same for all."""
    min_rows_per_task: int = Field(0, ge=0)
    """No task gets fewer rows, unless it has fewer: what keeps long tails visible."""
    task_weights: dict[str, float] = Field(default_factory=dict)
    """Task -> factor on what `task_balance` gives it."""
    capability_shares: dict[str, float] = Field(default_factory=dict)
    """Capability -> share of the SNS rows; the others divide the rest. Empty: as the tasks come."""
    max_repeats: int = Field(1, ge=1)
    """A row stands in the set at most so many times; copies have `#2`, `#3`, ... after the id."""

    def rule_violations(self) -> Iterator[str]:
        """One measure of general rows; shares and factors that can be kept."""
        if self.general_share is not None and self.general_rows is not None:
            yield f"general_share={self.general_share:g} and general_rows={self.general_rows}: give one of them"
        if self.num_rows is not None and self.general_rows is not None and self.general_rows > self.num_rows:
            yield f"general_rows={self.general_rows} is more than num_rows={self.num_rows}; lower it"
        if any(factor <= 0 for factor in self.task_weights.values()):
            yield f"task_weights={self.task_weights} must be above 0; leave a task out of the input instead"
        shares = self.capability_shares
        if any(share < 0 for share in shares.values()) or sum(shares.values()) > 1 + 1e-9:
            yield f"capability_shares={shares} must be at least 0 and add up to 1 at most"
        if shares and self.num_rows is None:
            yield f"capability_shares={shares} needs num_rows: without it all SNS rows are taken"


REDONE_SCHEDULE = (MixConfig(general_share=0.5), MixConfig(general_share=0.2))
"""RedOne's two steps: all SNS rows with a large share of general ones, then a higher share of SNS rows. The paper gives
no figures for the shares: one half and one fifth are ours."""


class SFTSetConfig(MixConfig):
    """Conversations from task rows and conversations, mixed, checked and measured."""

    schedule: Literal["redone"] | tuple[MixConfig, ...] = ()
    """Several sets of the same inputs, one after the other in training: `step1/`, `step2/`, ... `redone` is RedOne's
    (general share 0.5, then 0.2). The settings of a mix then stand here and not beside it."""
    format: InputFormat = "auto"
    """Format of `sns` and `general`; `auto` tells it row by row from the keys."""
    latin_language: str = Field("en", min_length=1)
    """Language of a row in Latin letters that does not say its own; Chinese, Japanese and Korean show in the script."""
    sequence_length: int = Field(16_384, ge=8)
    """Tokens of a packed row. Needs a tokenizer, like the next."""
    too_long: Literal["drop", "refuse"] = "drop"
    """A conversation longer than that is left out and counted, or refused like a bad row. None is cut."""

    def rule_violations(self) -> Iterator[str]:
        """A schedule leaves nothing to say beside it."""
        yield from super().rule_violations()
        beside = [name for name in MixConfig.model_fields if name in self.model_fields_set]
        if self.schedule and beside:
            yield f"schedule: {', '.join(beside)} beside it would have no effect; move it into the steps"

    @property
    def mixes(self) -> tuple[MixConfig, ...]:
        """The mix of each step; one without a schedule."""
        if self.schedule == "redone":
            return REDONE_SCHEDULE
        if self.schedule:
            return self.schedule
        return (MixConfig(**{name: getattr(self, name) for name in MixConfig.model_fields}),)
