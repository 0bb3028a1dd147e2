"""The weak bucket as a file that a person may edit before the next stage."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from megatron_redone.common.errors import ConfigError
from megatron_redone.common.files import atomic_write_text
from megatron_redone.config.base import StrictModel
from megatron_redone.config.loading import dump_yaml, load_yaml, validate
from megatron_redone.reporting.schema import DiagnosisResult
from megatron_redone.tasks.catalogue import TASKS
from megatron_redone.tasks.row import nearest

BUCKET = "bucket.yaml"
HEADER = """\
# The weak bucket: tasks that the next stage draws its rows from.
# To change it, copy this file, delete tasks or add others of the catalogue (`redone tasks list`), and name the copy:
# bucket=./my_bucket.yaml. A task with weight 2 gets twice the rows of its neighbours with weight 1.
"""


class BucketTask(StrictModel):
    """One task of the bucket."""

    weight: float = Field(1.0, gt=0)
    """Its share among the bucket's tasks of its capability, relative to theirs."""
    reason: str = ""
    """Why it is here; for people."""


class Bucket(StrictModel):
    """The file's content."""

    tasks: dict[str, BucketTask] = Field(min_length=1)


def bucket_of(found: DiagnosisResult) -> Bucket | None:
    """The bucket of a diagnosis, in names of the catalogue; None where there is nothing in it.

    A weak file of SNS-Bench stands for the tasks that ask the same (`Task.benchmark`); one that none asks is left out.
    """
    reasons = {task.task: task.reason for task in found.tasks}
    tasks = {name: BucketTask(reason=reasons[weak]) for weak in found.weak_bucket for name in catalogue_names(weak)}
    return Bucket(tasks=dict(sorted(tasks.items()))) if tasks else None


def catalogue_names(task: str) -> list[str]:
    """The task itself, or those of the catalogue that ask what a benchmark's file of this name asks."""
    if task in TASKS:
        return [task]
    return sorted(
        name for name, known in TASKS.items() if known.benchmark and known.benchmark == task.removesuffix(".json")
    )


def write_bucket(path: Path, found: DiagnosisResult) -> Bucket | None:
    """Writes the bucket of a diagnosis, with how to edit it; an empty one leaves no file."""
    bucket = bucket_of(found)
    if bucket is not None:
        write_bucket_file(path, bucket)
    return bucket


def write_bucket_file(path: Path, bucket: Bucket) -> None:
    """Writes a bucket, with how to edit it."""
    atomic_write_text(path, HEADER + dump_yaml(bucket))


def read_bucket(path: Path) -> Bucket:
    """A bucket file (YAML, or JSON, which YAML contains).

    Raises:
        ConfigError: no such file, a broken or empty one, unknown keys, or tasks that the catalogue does not have: all
            of them, with their lines.
    """
    data = load_yaml(path)
    bucket = validate(Bucket, data, str(path))
    tasks = data["tasks"]
    origins = getattr(tasks, "origins", {})
    problems = [
        f"{origins.get(name, path)}: task {name!r} is not in the catalogue{nearest(name, TASKS)}; "
        "`redone tasks list` has their names"
        for name in bucket.tasks
        if name not in TASKS
    ]
    if problems:
        raise ConfigError(problems)
    return bucket


def bucket_for(edited: Path | None, diagnosis: Path, found: DiagnosisResult) -> Bucket:
    """The edited bucket if there is one, else that of the diagnosis.

    Raises:
        ConfigError: the file in the folder of the diagnosis was edited in place (the manifest of what is made of it
            would tell a bucket that it was not made of), or the diagnosis found nothing weak.
    """
    if edited is not None:
        return read_bucket(edited)
    bucket = bucket_of(found)
    path = diagnosis / BUCKET
    if path.is_file() and (bucket is None or read_bucket(path) != bucket):
        raise ConfigError(
            [f"{path} was edited in place, but a finished stage stays as it is: copy it and give bucket=./COPY.yaml"]
        )
    if bucket is None:
        raise ConfigError(
            [f"{diagnosis}: the diagnosis found no weak task; raise its threshold or min_tasks, or give bucket=FILE"]
        )
    return bucket
