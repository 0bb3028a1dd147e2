"""Where the time of a run went."""

from __future__ import annotations

from dataclasses import dataclass

from megatron_redone.reporting.run_files import RunFiles


@dataclass(frozen=True)
class StageTime:
    """Wall seconds of one stage and seed."""

    name: str
    seed: int | None
    seconds: float
    evaluation_seconds: float

    @property
    def total(self) -> float:
        """The stage with its evaluation."""
        return self.seconds + self.evaluation_seconds


def stage_times(files: RunFiles) -> tuple[StageTime, ...]:
    """Times of the stages that have a manifest, in the order of the run."""
    return tuple(
        StageTime(stage.stage.name, stage.stage.seed, stage.manifest.seconds, stage.manifest.evaluation_seconds)
        for stage in files.stages
        if stage.manifest
    )
