"""What would stop a run in the middle, found before the first stage begins. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from megatron_redone.common.errors import DataError, InputError
from megatron_redone.config.loading import load_yaml
from megatron_redone.recipes.config import (
    BaselinesStage,
    DiagnoseStage,
    RefinementSetStage,
    RLSetStage,
    TargetSetStage,
)
from megatron_redone.recipes.data_stages import (
    FilterStage,
    JudgeAgreementStage,
    PairsStage,
    RegMixFitStage,
    SFTSetStage,
    SNSBenchRowsStage,
    TokenizeStage,
    ToneModelStage,
)
from megatron_redone.recipes.graph import Recipe
from megatron_redone.recipes.plan import input_problems, layout_problems
from megatron_redone.recipes.stage_config import ScoredStage, StageConfig, artefacts_of, is_path

MADE_BY: dict[str, type[StageConfig]] = {
    "model": ScoredStage,
    "model.path": ScoredStage,
    "reference": ScoredStage,
    "judge_model": ScoredStage,
    "language_model.model": ScoredStage,
    "tone.model": ToneModelStage,
    "tokens": TokenizeStage,
    "blend.corpora": TokenizeStage,
    "domains": TokenizeStage,
    "validation": TokenizeStage,
    "diagnosis": DiagnoseStage,
    "agreement": JudgeAgreementStage,
    "weights_from": RegMixFitStage,
    "pairs": PairsStage,
}
"""Fields (without the keys of lists and mappings) that only one type of stage can fill."""


def problems_before_start(
    recipe: Recipe, world_size: int, only_stage: str | None = None, needs_inputs: bool = True
) -> list[str]:
    """All that can be known to fail, each as a sentence; empty when the run may begin.

    Args:
        only_stage: what other stages than this one read from outside, and their layouts, are not looked at.
        needs_inputs: paths that are not there are problems; else only what is there is looked at.
    """
    stages = {name: stage for name, stage in recipe.stages.items() if only_stage in (None, name)}
    return [
        *(input_problems(recipe, stages) if needs_inputs else []),
        *layout_problems(recipe, world_size, stages),
        *_kind_problems(recipe),
        *_place_problems(recipe),
        *_content_problems(recipe, stages),
    ]


def _kind_problems(recipe: Recipe) -> Iterator[str]:
    """Stages that read what another kind of stage makes: a model from a stage that makes rows."""
    for name, stage in recipe.stages.items():
        for field, reference in artefacts_of(stage):
            wanted = next((kind for key, kind in MADE_BY.items() if field == key or field.startswith(f"{key}.")), None)
            wanted = MADE_BY["weights_from"] if field.endswith(".weights_from") else wanted
            if is_path(reference) or wanted is None or isinstance(recipe.stages[reference], wanted):
                continue
            made = recipe.stages[reference].kind
            what = "a model" if wanted is ScoredStage else f"what a {_kind_of(wanted)} stage makes"
            yield f"stage {name}: {field}={reference!r} is a {made} stage, but {what} is read here; name another stage"


def _kind_of(stage: type[StageConfig]) -> str:
    return str(stage.model_fields["kind"].annotation.__args__[0])  # type: ignore[union-attr]


def _place_problems(recipe: Recipe) -> Iterator[str]:
    """Places where a stage writes and another one reads without naming it, or that hold what is read."""
    output = recipe.config.output.resolve()
    folders = {(output / run.id): run.name for run in recipe.runs}
    for name, stage in recipe.stages.items():
        for field, reference in artefacts_of(stage):
            if not is_path(reference):
                continue
            path = (recipe.path.parent / reference).resolve()
            writer = next((folders[folder] for folder in (path, *path.parents) if folder in folders), None)
            if writer is not None:
                yield (
                    f"stage {name}: {field}={reference!r} is what stage {writer} of this recipe writes; name the "
                    "stage, so that it is run first, or give another `output`"
                )
            elif path in (output, *output.parents) and path.is_dir():
                yield (
                    f"stage {name}: {field}={reference!r} holds the folder of the run ({recipe.config.output}), so it "
                    "would change while it is read; give an `output` outside of it"
                )


def _content_problems(recipe: Recipe, stages: Mapping[str, StageConfig]) -> Iterator[str]:
    """Files from outside that are there and cannot be used: small ones are read, large ones only looked for."""
    for name, stage in stages.items():
        for field, reference in artefacts_of(stage):
            path = recipe.path.parent / reference
            if is_path(reference) and path.exists():
                for problem in _unusable(recipe, stage, field, path):
                    yield f"stage {name}: {field}={reference!r}: {problem}"


def _unusable(recipe: Recipe, stage: StageConfig, field: str, path: Path) -> Iterator[str]:
    refused_share = recipe.config.max_refused_share
    if isinstance(stage, FilterStage) and field.startswith("decontamination.benchmarks."):
        assert stage.decontamination is not None
        yield from _benchmark_problems(path, stage.decontamination.files)
    elif isinstance(stage, SNSBenchRowsStage) and field == "data":
        yield from _sns_bench_problems(path, stage, refused_share)
    elif field == "evaluate.data":
        assert isinstance(stage, ScoredStage) and stage.evaluate is not None
        yield from _row_problems(path / f"{stage.evaluate.split}.jsonl", refused_share)
    elif field == "data" and (file := _rows_read_by(stage)) is not None:
        if isinstance(stage, DiagnoseStage | BaselinesStage):
            yield from _row_problems(path / file, refused_share)
        elif not (path / file).is_file():
            yield f"{path / file} is not there; the stage reads its rows from it"
    elif field == "diagnosis" and not (path / "diagnosis.json").is_file():
        yield f"{path / 'diagnosis.json'} is not there; a diagnosis is a folder with that file"
    elif field == "bucket":
        yield from bucket_problems(path)


def _rows_read_by(stage: StageConfig) -> str | None:
    """The file of task rows that a stage reads from its input `data`."""
    if isinstance(stage, DiagnoseStage):
        return "diagnosis.jsonl"
    if isinstance(stage, BaselinesStage | PairsStage):
        return f"{stage.split}.jsonl"
    return "train.jsonl" if isinstance(stage, RLSetStage | SFTSetStage | TargetSetStage | RefinementSetStage) else None


def _told(read: Callable[[], object]) -> Iterator[str]:
    """What an attempt to read says when it fails."""
    try:
        read()
    except InputError as error:
        yield " ".join(str(error).split())
    except OSError as error:
        yield f"cannot be read ({error}); check its permissions"


def _benchmark_problems(path: Path, files: tuple[str, ...]) -> Iterator[str]:
    from megatron_redone.curation.filter.benchmarks import benchmark_files, rows_of

    try:
        found = benchmark_files(path, files)
    except DataError as error:
        yield str(error)
        return
    for file in found:
        yield from _told(lambda file=file: sum(1 for _ in rows_of(file)))  # type: ignore[misc]


def _sns_bench_problems(path: Path, stage: SNSBenchRowsStage, refused_share: float) -> Iterator[str]:
    from megatron_redone.curation.sns_bench_rows import rows_of_file

    for task in stage.tasks:
        yield from _told(lambda task=task: rows_of_file(path / f"{task}.json", task, refused_share))  # type: ignore[misc]


def _row_problems(file: Path, refused_share: float) -> Iterator[str]:
    from megatron_redone.tasks.reading import read_rows

    yield from _told(lambda: read_rows(file, refused_share))


def bucket_problems(file: Path) -> Iterator[str]:
    """Tasks of an edited bucket, `tasks:` with a name each, that nobody knows."""
    from megatron_redone.tasks.catalogue import get_task

    try:
        tasks = load_yaml(file).get("tasks")
    except InputError as error:
        yield str(error)
        return
    if not isinstance(tasks, dict) or not tasks:
        yield f"{file}: tasks={tasks!r} names none; list at least one under `tasks:`"
        return
    for task in tasks:
        yield from _told(lambda task=task: get_task(task))  # type: ignore[misc]
