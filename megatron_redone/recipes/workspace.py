"""The folder of a run: one artefact folder a stage, made atomically, described by its manifest."""

from __future__ import annotations

import contextlib
import fcntl
import json
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from megatron_redone.common.errors import DataError, InputError
from megatron_redone.common.files import atomic_write_json, fsync_directory, sha256_path
from megatron_redone.common.logging import get_logger
from megatron_redone.recipes.code_version import code_version
from megatron_redone.recipes.graph import Recipe, StageRun
from megatron_redone.recipes.provenance import hash_from_outside, machine as machine, versions as versions
from megatron_redone.recipes.stage_config import is_path
from megatron_redone.reporting.schema import Comparison, FileRecord, Manifest, Run, RunStage, Status

LOG = get_logger("recipe")
MANIFEST = "manifest.json"
UNPUBLISHED = ("checkpoints", "work.json")
"""What a work folder holds that its artefact does not."""
BLEND = "blend"
SECONDS_BETWEEN_TRIES = 0.5


@dataclass(frozen=True)
class Workspace:
    """Where a recipe runs."""

    recipe: Recipe
    root: Path
    rerun_on_new_code: bool = False
    """An artefact that other code made does not count as done."""

    def folder(self, run_id: str) -> Path:
        """Artefact folder of a stage run."""
        return self.root / run_id

    def work_folder(self, run_id: str) -> Path:
        """Where a stage run works until it is done; kept over an interruption."""
        return self.root / ".work" / run_id

    def input_path(self, reference: str) -> Path:
        """Folder of an input: a stage run's, or a path relative to the recipe file."""
        return self.recipe.path.parent / reference if is_path(reference) else self.folder(reference)

    def input_records(self, run: StageRun) -> dict[str, FileRecord]:
        """Path and hash of everything a stage run reads.

        Raises:
            DataError: an input is not there.
        """
        records = {}
        for field, reference in run.inputs.items():
            path = self.input_path(reference)
            if not path.exists():
                remedy = "paths are relative to the recipe file" if is_path(reference) else "run that stage first"
                raise DataError(f"{run.id}: {field}={reference!r} needs {path}, which is not there; {remedy}")
            digest = hash_from_outside(path) if is_path(reference) else self.artefact_hash(reference)
            records[field] = FileRecord(path=reference, sha256=digest)
        return records

    def artefact_hash(self, run_id: str) -> str:
        """Hash of a stage run's artefact as it was published."""
        folder = self.folder(run_id)
        manifest = folder / MANIFEST
        if not manifest.is_file():
            return sha256_path(folder)
        return str(json.loads(manifest.read_text(encoding="utf-8"))["outputs"]["folder"]["sha256"])

    @contextlib.contextmanager
    def locked(self, run_id: str | None = None, shared: bool = False, seconds: float = 0.0) -> Iterator[None]:
        """Keeps every other run out of this folder, or out of one stage run's.

        Args:
            shared: keeps out only those that want the whole folder for themselves.
            seconds: how long to wait for another run to leave, such as a process that a lost node left behind.

        Raises:
            InputError: another run works in it.
        """
        path = self.root / ".lock" if run_id is None else self.root / ".work" / f"{run_id}.lock"
        path.parent.mkdir(parents=True, exist_ok=True)
        give_up = time.monotonic() + seconds
        with path.open("a+") as file:
            while True:
                try:
                    # a record lock: unlike flock's, no child that Megatron forks to write checkpoints inherits it
                    fcntl.lockf(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
                    break
                except (BlockingIOError, PermissionError) as error:
                    if time.monotonic() >= give_up:
                        folder = self.root if run_id is None else self.folder(run_id)
                        raise InputError(
                            f"{folder}: another run works in this folder; wait for it, stop it, or give another "
                            "`output`"
                        ) from error
                time.sleep(SECONDS_BETWEEN_TRIES)
            yield

    @contextlib.contextmanager
    def locked_for(self, runs: Sequence[StageRun] | None, seconds: float = 0.0) -> Iterator[None]:
        """Keeps others out while some stages are run by themselves, or (None) the whole recipe.

        Processes that run different stages of one recipe work in its folder at the same time. `seconds` as in `locked`.

        Raises:
            InputError: another run works there.
        """
        with contextlib.ExitStack() as locks:
            locks.enter_context(self.locked(shared=runs is not None, seconds=seconds))
            for run in runs or ():
                locks.enter_context(self.locked(run.id, seconds=seconds))
            yield

    def is_done(self, run: StageRun) -> bool:
        """Whether the run's artefact stands, made from this configuration and these inputs."""
        path = self.folder(run.id) / MANIFEST
        if not path.is_file():
            return False
        manifest = json.loads(path.read_text(encoding="utf-8"))
        if manifest["status"] != "done" or identity_of(manifest["config"]) != identity_of(stage_settings(run)):
            return False
        if self.again_marker(run.id).is_file() or (self.rerun_on_new_code and self.made_by_other_code(manifest)):
            return False
        records = {name: record.model_dump() for name, record in self.input_records(run).items()}
        return bool(manifest["inputs"] == records)

    def made_by_other_code(self, manifest: Mapping[str, Any]) -> str:
        """Which other code made an artefact; empty where it was this code."""
        made, now = manifest["code_version"], code_version()
        return "" if made == now else f"made by code {made}, this is {now}"

    def again_marker(self, run_id: str) -> Path:
        """A file that stands while a stage run is to be run again although it is done (`--from`)."""
        return self.root / ".work" / f"{run_id}.again"

    def stands(self, run: StageRun) -> bool:
        """Whether some finished artefact of the run stands, made from whatever inputs."""
        return (self.folder(run.id) / MANIFEST).is_file()

    def open_work(self, run: StageRun) -> tuple[Path, dict[str, Any]]:
        """The work folder, and what decides the stage's result: its configuration and inputs.

        What an interrupted run of another configuration or other inputs left there is moved aside, as `NAME.before`.
        """
        folder = self.work_folder(run.id)
        records = {name: record.model_dump() for name, record in self.input_records(run).items()}
        identity = {"config": identity_of(stage_settings(run)), "inputs": records}
        marker = folder / "work.json"
        found = json.loads(marker.read_text()) if marker.is_file() else {}
        if resumable(found) != resumable(identity):
            if (folder / "checkpoints").is_dir():
                before = folder.with_name(f"{run.id}.before")
                shutil.rmtree(before, ignore_errors=True)
                folder.rename(before)
                LOG.warning(
                    "%s: begun with other settings (%s); it starts anew, and what was trained is kept in %s",
                    run.id,
                    ", ".join(changes(found, identity)[:3]),
                    before,
                )
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
        if found != identity:
            atomic_write_json(marker, identity)
        return folder, identity

    def publish(
        self,
        run: StageRun,
        *,
        started: datetime,
        seconds: float,
        evaluation_seconds: float,
        counts: Mapping[str, int | float],
        refused: list[str],
    ) -> None:
        """Turns the work folder into the artefact: manifest written, checkpoints removed, renamed.

        From the manifest on a kill costs nothing: `finish_publishing` does the rest.
        """
        work = self.work_folder(run.id)
        manifest = Manifest(
            stage=run.name,
            kind=run.config.kind,
            status="done",
            config=stage_settings(run),
            code_version=code_version(),
            seeds=(run.run_seed,),
            inputs=self.input_records(run),
            outputs={"folder": FileRecord(path=run.id, sha256=sha256_path(work, UNPUBLISHED))},
            counts=dict(counts),
            refused_rows=tuple(refused),
            started=started.isoformat(timespec="seconds"),
            seconds=round(seconds, 3),
            evaluation_seconds=round(evaluation_seconds, 3),
            machine=machine(),
            versions=versions(),
        )
        atomic_write_json(work / MANIFEST, manifest.model_dump(mode="json"))
        self.finish_publishing(run)

    def finish_publishing(self, run: StageRun) -> None:
        """Moves a work folder with a manifest to its place; does nothing where there is none."""
        work, final = self.work_folder(run.id), self.folder(run.id)
        manifest = work / MANIFEST
        if not manifest.is_file() or json.loads(manifest.read_text(encoding="utf-8")).get("status") != "done":
            return
        for name in UNPUBLISHED:
            path = work / name
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        old = self.root / ".work" / f"{run.id}.old"
        shutil.rmtree(old, ignore_errors=True)
        if final.exists():
            final.rename(old)
        work.rename(final)
        fsync_directory(self.root)
        self.again_marker(run.id).unlink(missing_ok=True)
        shutil.rmtree(old, ignore_errors=True)

    def recorded_status(self) -> dict[str, Status]:
        """The status of each stage run as run.json has it; empty where there is none that can be read."""
        try:
            found = json.loads((self.root / "run.json").read_text(encoding="utf-8"))
            return {stage["folder"]: stage["status"] for stage in found["stages"]}
        except (OSError, ValueError, KeyError, TypeError):
            return {}

    def write_run(self, status: Mapping[str, Status], command: str) -> None:
        """run.json: what the report reads first."""
        config = self.recipe.config
        comparison = None
        if config.comparison is not None:
            comparison = Comparison(**config.comparison.model_dump())
        record = Run(
            recipe=str(self.recipe.path),
            name=config.name,
            command=command,
            seeds=config.seeds,
            stages=tuple(
                RunStage(name=run.name, kind=run.config.kind, seed=run.seed, folder=run.id, status=status[run.id])
                for run in self.recipe.runs
            ),
            comparison=comparison,
            notes=config.notes,
        )
        atomic_write_json(self.root / "run.json", record.model_dump(mode="json"))


def stage_settings(run: StageRun) -> dict[str, Any]:
    """Everything that decides a stage run's result, apart from its inputs' contents."""
    settings = run.config.model_dump(mode="json")
    return {**settings, "seed": run.run_seed}


def identity_of(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that decide a stage's result: not layout, threads, workers, executor, checkpoints, and where
    rollout servers run."""
    identity = {
        name: {inner: kept for inner, kept in value.items() if inner != "servers"} if name == "generation" else value
        for name, value in settings.items()
        if name not in ("threads", "workers", "executor", "checkpoint", "watchdog_minutes", "reference_cache")
    }
    if "rewards" in identity:
        identity["rewards"] = {name: value for name, value in identity["rewards"].items() if name != "num_workers"}
    if "parallel" in identity:
        identity["parallel"] = {"precision": identity["parallel"]["precision"]}
    return identity


def resumable(identity: Mapping[str, Any]) -> dict[str, Any]:
    """What of a stage's identity has to be the same for interrupted work to go on.

    A blend of corpora may change while a run is interrupted; its ledger in the checkpoint says whether the new one
    agrees with what was read (`training/blend_ledger.py`).
    """
    if not identity:
        return {}
    config = {name: value for name, value in identity["config"].items() if name != BLEND or value is None}
    inputs = {name: record for name, record in identity["inputs"].items() if not name.startswith(f"{BLEND}.")}
    return {"config": config, "inputs": inputs}


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """The dotted keys whose values differ, with both of them."""
    found: list[str] = []
    for key in sorted(before.keys() | now.keys()):
        old, new = before.get(key), now.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            found += [f"{key}.{inner}" for inner in changes(old, new)]
        elif old != new:
            found.append(f"{key} was {old}, now {new}")
    return found
