"""What stands of a run, against what its recipe asks for now: which stages are done, which will be run and why."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from megatron_redone.common.errors import DataError
from megatron_redone.recipes.graph import StageRun
from megatron_redone.recipes.stage_config import is_path
from megatron_redone.recipes.workspace import MANIFEST, Workspace, changes, identity_of, stage_settings

CHANGES_SHOWN = 3


@dataclass(frozen=True)
class Standing:
    """The state of one stage run.

    Attributes:
        state: `done`; `begun`, interrupted work lies in the work folder; `absent`; `again`, asked for by `--from`;
            `changed`, an artefact stands that was made from other settings or inputs.
        reason: what changed, or which other code made what is done.
    """

    state: Literal["done", "begun", "absent", "again", "changed"]
    reason: str = ""


def standing(workspace: Workspace, run: StageRun) -> Standing:
    """What stands of a stage run.

    Raises:
        DataError: what it reads is not there, so that nothing can be said.
    """
    path = workspace.folder(run.id) / MANIFEST
    if not path.is_file():
        return Standing("begun" if (workspace.work_folder(run.id) / "work.json").is_file() else "absent")
    if workspace.again_marker(run.id).is_file():
        return Standing("again", "asked for by --from")
    manifest = json.loads(path.read_text(encoding="utf-8"))
    if different := _settings_changed(manifest, run):
        return Standing("changed", different)
    if different := _inputs_changed(manifest, workspace, run):
        return Standing("changed", different)
    if workspace.is_done(run):
        return Standing("done", workspace.made_by_other_code(manifest))
    return Standing("changed", workspace.made_by_other_code(manifest))


def _settings_changed(manifest: dict[str, Any], run: StageRun) -> str:
    found = changes(identity_of(manifest["config"]), identity_of(stage_settings(run)))
    return "; ".join(found[:CHANGES_SHOWN]) + (f"; and {len(found) - CHANGES_SHOWN} more" if len(found) > 3 else "")


def _inputs_changed(manifest: dict[str, Any], workspace: Workspace, run: StageRun) -> str:
    now = {name: record.model_dump() for name, record in workspace.input_records(run).items()}
    names = [
        name for name in sorted(now.keys() | manifest["inputs"].keys()) if now.get(name) != manifest["inputs"].get(name)
    ]
    return f"reads other {', '.join(names)}" if names else ""


def standings(workspace: Workspace) -> Iterator[tuple[StageRun, Standing, Sequence[str]]]:
    """(run, what stands of it, what it waits for) of every run in order.

    A run waits for those it reads that are not done. If its own artefact was made from equal settings, it will be run
    only if what it waits for comes out different.
    """
    waiting: set[str] = set()
    for run in workspace.recipe.runs:
        waits_for = [name for name in dict.fromkeys(run.dependencies) if name in waiting]
        try:
            found = standing(workspace, run)
        except DataError as error:
            made = workspace.folder(run.id) / MANIFEST  # there, but what it was made from is not
            same = waits_for and not _settings_changed(json.loads(made.read_text(encoding="utf-8")), run)
            found = Standing("done") if same else Standing("changed", str(error))
        if found.state != "done" or waits_for:
            waiting.add(run.id)
        yield run, found, waits_for


def missing_inputs(workspace: Workspace, runs: Sequence[StageRun]) -> list[str]:
    """What some stages read of others and does not stand: they cannot be run by themselves."""
    wanted = {run.id for run in runs}
    return [
        f"stage {run.id}: {field}={reference!r} is not done in {workspace.root}; run that stage first"
        for run in runs
        for field, reference in run.inputs.items()
        if not is_path(reference) and reference not in wanted and not (workspace.folder(reference) / MANIFEST).is_file()
    ]


def disagreements(workspace: Workspace, runs: Sequence[StageRun]) -> list[str]:
    """What some stages read, directly or not, that a whole run of this recipe would make again first.

    That is what was made with other settings than the recipe has now, or from something else than stands there now.
    What no longer lies in the folder, and files from outside, are not looked at.
    """
    found: list[str] = []
    waiting, seen = [name for run in runs for name in run.dependencies], {run.id for run in runs}
    while waiting:
        name = waiting.pop(0)
        if name not in seen:
            seen.add(name)
            run = workspace.recipe.run_of(name)
            waiting += run.dependencies
            if workspace.stands(run) and (difference := _disagrees(workspace, run)):
                found.append(f"{name} {difference}; without --only it would be run again first")
    return found


def _disagrees(workspace: Workspace, run: StageRun) -> str:
    if workspace.again_marker(run.id).is_file():
        return "is to be run again (--from)"
    manifest = json.loads((workspace.folder(run.id) / MANIFEST).read_text(encoding="utf-8"))
    if manifest["status"] != "done":
        return f"status={manifest['status']!r}"
    if different := _settings_changed(manifest, run):
        return f"was made with other settings ({different})"
    for field, reference in run.inputs.items():
        record = manifest["inputs"].get(field)
        if record is None or record["path"] != reference:
            return f"was made from another {field}"
        if is_path(reference) or not workspace.stands(workspace.recipe.run_of(reference)):
            continue
        if workspace.artefact_hash(reference) != record["sha256"]:
            return f"was made from another {reference} than stands there now"
    return ""
