"""What the configurations of all stages have, and what they read. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal, get_args

from pydantic import Field

from megatron_redone.checkpoint.config import CheckpointConfig
from megatron_redone.config.artefact import ARTEFACT, Artefact
from megatron_redone.config.base import StrictModel
from megatron_redone.generation.config import GenerationConfig
from megatron_redone.parallel.config import ParallelConfig
from megatron_redone.scoring.config import ScoringConfig

RUN_KEYS = ("seed", "max_refused_share")
"""Keys of a recipe that a file of one stage may hold as well. No stage has fields of these names."""


class EvaluationConfig(StrictModel):
    """Held-out rows that a stage's model answers when the stage is done."""

    data: Artefact
    split: Literal["validation", "diagnosis", "test"] = "test"
    generation: GenerationConfig = GenerationConfig(temperature=0.0)
    scoring: ScoringConfig = ScoringConfig()


class StageConfig(StrictModel):
    """What every stage has."""

    kind: str
    per_seed: bool = False
    """Run once for each of the recipe's `seeds`; stages that read this one with `per_seed` read their own seed's."""
    threads: int | None = Field(None, ge=1)
    """CPU threads of the stage's process; by default the cores divided by the recipe's `workers`."""


class ModelStage(StageConfig):
    """A stage that runs a model."""

    parallel: ParallelConfig = ParallelConfig()


class ScoredStage(ModelStage):
    """A stage whose output is a model, which may answer held-out rows."""

    evaluate: EvaluationConfig | None = None


class TrainingStage(ScoredStage):
    """A stage that trains a model."""

    checkpoint: CheckpointConfig = CheckpointConfig()
    watchdog_minutes: float | None = Field(60.0, gt=0)
    """When no step is finished in so long, the run is ended with the stacks of all ranks; null: it may hang."""


def artefacts_of(config: StrictModel) -> Iterator[tuple[str, str]]:
    """(field, value) of every artefact that a stage reads, nested sections included."""
    for name, field in type(config).model_fields.items():
        value = getattr(config, name)
        if ARTEFACT in field.metadata:
            if value is not None:
                yield name, value
        elif isinstance(value, StrictModel):
            yield from ((f"{name}.{inner}", reference) for inner, reference in artefacts_of(value))
        elif isinstance(value, tuple) and any(
            ARTEFACT in getattr(a, "__metadata__", ()) for a in get_args(field.annotation)
        ):
            yield from ((f"{name}.{place}", reference) for place, reference in enumerate(value))
        elif isinstance(value, dict) and any(
            ARTEFACT in getattr(a, "__metadata__", ()) for a in get_args(field.annotation)
        ):
            yield from ((f"{name}.{key}", reference) for key, reference in value.items())
        elif isinstance(value, tuple):
            for place, section in enumerate(value):
                if isinstance(section, StrictModel):
                    yield from ((f"{name}.{place}.{inner}", found) for inner, found in artefacts_of(section))


def is_path(reference: str) -> bool:
    """Whether an artefact is a folder made elsewhere."""
    return "/" in reference


MODEL = "model"


"""Where the folder of a stage that makes a model holds it."""


def model_folder(folder: Path) -> Path:
    """The model of a stage's folder, or the folder itself, which was made elsewhere."""
    return folder / MODEL if (folder / MODEL).is_dir() else folder
