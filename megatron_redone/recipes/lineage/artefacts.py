"""Finished artefacts on disk and which was made of which, from their manifests alone: no recipe is read."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from megatron_redone.common.errors import DataError, InputError
from megatron_redone.recipes.stage_config import is_path
from megatron_redone.recipes.workspace import MANIFEST
from megatron_redone.reporting.schema import FileRecord, Manifest, validate_result

MAX_DEPTH = 6
ENDINGS = (".jsonl", ".jsonl.gz")
NOT_DATA = ("metrics.jsonl", "timing.jsonl", "ledger.jsonl", "samples.jsonl", "samples.jsonl.gz")
"""JSONL files without rows or documents."""


@dataclass(frozen=True)
class Artefact:
    """The folder of a finished stage run."""

    folder: Path
    manifest: Manifest

    @property
    def name(self) -> str:
        """Name of the folder, which is that of the stage run."""
        return self.folder.name

    @property
    def sha256(self) -> str | None:
        """Hash of the folder when it was published."""
        record = self.manifest.outputs.get("folder")
        return record.sha256 if record else None

    def data_files(self) -> Iterator[Path]:
        """Its files of rows and documents, those of folders in it as well."""
        for path in sorted(self.folder.rglob("*")):
            if path.name.endswith(ENDINGS) and path.name not in NOT_DATA and path.is_file():
                yield path


@dataclass(frozen=True)
class Input:
    """What an artefact read: another artefact, or a file or folder that no artefact here is."""

    field: str
    record: FileRecord
    producer: Artefact | None
    path: Path | None = None
    """Where a file from outside lies, if it still does."""


@dataclass(frozen=True)
class ArtefactGraph:
    """All artefacts below some folders."""

    artefacts: Sequence[Artefact]

    @cached_property
    def _by_folder(self) -> Mapping[Path, Artefact]:
        return {artefact.folder: artefact for artefact in self.artefacts}

    @cached_property
    def _by_hash(self) -> Mapping[str, Artefact]:
        return {artefact.sha256: artefact for artefact in reversed(self.artefacts) if artefact.sha256}

    @cached_property
    def _inputs(self) -> Mapping[Path, tuple[Input, ...]]:
        return {artefact.folder: tuple(self._resolve(artefact)) for artefact in self.artefacts}

    def inputs(self, artefact: Artefact) -> tuple[Input, ...]:
        """What the artefact read, by field."""
        return self._inputs[artefact.folder]

    def producers(self, artefact: Artefact) -> list[Artefact]:
        """The artefacts it read, each once."""
        found = {read.producer.folder: read.producer for read in self.inputs(artefact) if read.producer}
        return list(found.values())

    def consumers(self, artefact: Artefact) -> list[Artefact]:
        """The artefacts that read it."""
        return [other for other in self.artefacts if artefact in self.producers(other)]

    def ancestors(self, artefact: Artefact) -> list[Artefact]:
        """All that it was made of, directly or not."""
        return _closure(artefact, self.producers)

    def descendants(self, artefact: Artefact) -> list[Artefact]:
        """All that was made of it, directly or not."""
        return _closure(artefact, self.consumers)

    def holding(self, path: Path) -> Artefact | None:
        """The artefact that a file or folder is, or lies in."""
        return next((self._by_folder[folder] for folder in (path, *path.parents) if folder in self._by_folder), None)

    def _resolve(self, artefact: Artefact) -> Iterator[Input]:
        """By the folder that the record names, if its hash is still the one that was read; else by the hash."""
        for name, record in sorted(artefact.manifest.inputs.items()):
            path = Path(record.path) if is_path(record.path) else artefact.folder.parent / record.path
            named = self._by_folder.get(Path(os.path.normpath(path)))
            same = named is not None and named.sha256 == record.sha256
            producer = named if same else self._by_hash.get(record.sha256)
            outside = path if producer is None and path.is_absolute() and path.exists() else None
            yield Input(name, record, producer, outside)


def _closure(start: Artefact, step: Callable[[Artefact], list[Artefact]]) -> list[Artefact]:
    found: dict[Path, Artefact] = {}
    waiting = step(start)
    while waiting:
        artefact = waiting.pop(0)
        if artefact.folder not in found:
            found[artefact.folder] = artefact
            waiting = waiting + step(artefact)
    return list(found.values())


def find_artefacts(roots: Sequence[Path]) -> ArtefactGraph:
    """The artefacts in and below the folders, in the order in which they were begun; work in progress is left out.

    Raises:
        InputError: a folder is not there, or there is no artefact at all.
    """
    found: dict[Path, Artefact] = {}
    for root in roots:
        if not root.is_dir():
            raise InputError(f"--runs {root}: no such folder; name the folder of a run, or one that holds runs")
        for folder in _folders(root.resolve(), MAX_DEPTH):
            manifest = _manifest(folder / MANIFEST)
            if manifest is not None:
                found[folder] = Artefact(folder, manifest)
    if not found:
        shown = ", ".join(str(root) for root in roots)
        raise InputError(f"no {MANIFEST} of a stage in or below {shown}; name the folder of a run, or one with runs")
    graph = ArtefactGraph(sorted(found.values(), key=lambda artefact: artefact.folder))
    num_ancestors = {artefact.folder: len(graph.ancestors(artefact)) for artefact in graph.artefacts}

    def time(artefact: Artefact) -> tuple[str, int, Path]:  # of those begun in one second the maker has fewer ancestors
        return artefact.manifest.started, num_ancestors[artefact.folder], artefact.folder

    return ArtefactGraph(sorted(found.values(), key=time))


def _folders(folder: Path, depth: int) -> Iterator[Path]:
    """The folder and those below it; hidden ones hold unfinished work."""
    yield folder
    if depth:
        for inner in sorted(folder.iterdir()):
            if inner.is_dir() and not inner.is_symlink() and not inner.name.startswith("."):
                yield from _folders(inner, depth - 1)


def _manifest(path: Path) -> Manifest | None:
    """A stage's manifest; None where there is none, or one of another kind (checkpoints have theirs)."""
    if not path.is_file():
        return None
    try:
        return validate_result(json.loads(path.read_bytes()), Manifest, str(path))
    except (DataError, ValueError):
        return None
