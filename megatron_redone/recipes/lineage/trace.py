"""The whole way of a row, document, file or model: what it came from, what was made of it, what trained on it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from megatron_redone.common.errors import InputError
from megatron_redone.common.files import sha256_path
from megatron_redone.recipes.lineage.artefacts import Artefact, ArtefactGraph, Input
from megatron_redone.recipes.lineage.occurrences import Occurrence, nearest_ids, occurrences
from megatron_redone.recipes.lineage.reasons import Reason, reasons
from megatron_redone.recipes.lineage.training import Trained, is_training, trained_on
from megatron_redone.recipes.stage_config import MODEL

MODEL_FIELDS = ("model", "model.path")


@dataclass(frozen=True)
class IdTrace:
    """The way of a row or document.

    Attributes:
        standing: lines with the id in sets and corpora, in the order of the stages.
        answered: lines of predictions on it.
        parents: what it was made of, directly or not.
        lost_parents: ids that it was made of and that stand in none of the folders.
        derived: rows and documents made of it, directly or not.
        training: every training stage that could have read it, and what it did.
        started_from: models that start from one that learnt from it, and so carry it on.
        reasons: why stages took it into their sets.
    """

    id: str
    standing: Sequence[Occurrence]
    answered: Sequence[Occurrence]
    parents: Sequence[Occurrence]
    lost_parents: Sequence[str]
    derived: Sequence[Occurrence]
    training: Sequence[Trained]
    started_from: Sequence[Artefact]
    reasons: Sequence[Reason]


@dataclass(frozen=True)
class PathTrace:
    """The way of a file, folder or model."""

    path: Path
    artefact: Artefact | None
    """Whose file it is; None for one from outside."""
    is_as_published: bool
    read_by: Sequence[tuple[Artefact, Input]]
    """Stages that read it directly."""
    trained: Sequence[Artefact]
    """Training stages that read it, or what was made of it."""


def trace_id(graph: ArtefactGraph, identifier: str) -> IdTrace:
    """Finds an id in all artefacts and follows it both ways.

    Raises:
        InputError: nobody knows it; names the nearest ids.
    """
    found = list(occurrences(graph.artefacts, {identifier}, derived=True))
    if not found:
        near = nearest_ids(graph, identifier)
        hint = f"the nearest are {', '.join(near)}" if near else "no id is like it; check --runs"
        raise InputError(
            f"{identifier!r} is no row, document, file or stage in {len(graph.artefacts)} artefacts; {hint}"
        )
    own = [one for one in found if one.id == identifier]
    standing = [one for one in own if not one.is_prediction]
    holders = {one.artefact.folder: one.artefact for one in standing}
    parents, lost = _parents(standing, _all(holders.values(), graph.ancestors))
    below = _all(holders.values(), graph.descendants) if holders else graph.artefacts
    derived = _derived([one for one in found if one.id != identifier], below)
    training = _training(graph, identifier, [*standing, *derived])
    learnt = [one.artefact for one in training if one.verdict == "learnt"]
    return IdTrace(
        identifier,
        standing,
        [one for one in own if one.is_prediction],
        parents,
        lost,
        derived,
        training,
        _started_from(graph, learnt),
        reasons(graph, [*standing, *derived]),
    )


def _all(start: Iterable[Artefact], step: Callable[[Artefact], list[Artefact]]) -> list[Artefact]:
    """The artefacts and all that is reached from them."""
    found = {one.folder: one for artefact in start for one in (artefact, *step(artefact))}
    return list(found.values())


def _parents(own: Sequence[Occurrence], above: Sequence[Artefact]) -> tuple[list[Occurrence], list[str]]:
    parents: list[Occurrence] = []
    known = {one.id for one in own}
    wanted = {part for one in own for part in one.made_of} - known
    lost: list[str] = []
    while wanted:
        met = [one for one in occurrences(above, wanted, derived=False) if not one.is_prediction]
        lost += sorted(wanted - {one.id for one in met})
        parents += met
        known |= wanted
        wanted = {part for one in met for part in one.made_of} - known
    return parents, lost


def _derived(first: Sequence[Occurrence], below: Sequence[Artefact]) -> list[Occurrence]:
    folders = {artefact.folder for artefact in below}
    derived = [one for one in first if not one.is_prediction and one.artefact.folder in folders]
    wanted = known = {one.id for one in derived}
    while wanted:
        met = occurrences(below, wanted, derived=True)
        new = [one for one in met if one.id not in known and not one.is_prediction]
        derived += new
        wanted = {one.id for one in new}
        known = known | wanted
    return derived


def _training(graph: ArtefactGraph, identifier: str, held: Sequence[Occurrence]) -> list[Trained]:
    ids = {identifier, *(one.id for one in held)}
    holders = {one.artefact.folder for one in held}
    return [
        trained_on(graph, artefact, ids)
        for artefact in graph.artefacts
        if is_training(artefact) and any(ancestor.folder in holders for ancestor in graph.ancestors(artefact))
    ]


def _started_from(graph: ArtefactGraph, learnt: Sequence[Artefact]) -> list[Artefact]:
    """Stages whose model begins with the weights of one of these, directly or not."""
    carrying = {artefact.folder for artefact in learnt}
    found: list[Artefact] = []
    for artefact in graph.artefacts:  # in the order of time: a model is made after the one that it starts from
        if not (artefact.folder / MODEL).is_dir():
            continue
        models = [read.producer for read in graph.inputs(artefact) if read.field in MODEL_FIELDS and read.producer]
        if any(model.folder in carrying for model in models):
            carrying.add(artefact.folder)
            if artefact not in learnt:
                found.append(artefact)
    return found


def trace_path(graph: ArtefactGraph, path: Path) -> PathTrace:
    """The artefact that a file or folder belongs to, or the stages that read it from outside.

    Raises:
        InputError: no stage wrote or read it.
    """
    path = Path(os.path.abspath(path))
    artefact = graph.holding(path)
    if artefact is not None:
        readers = [
            (other, read)
            for other in graph.artefacts
            for read in graph.inputs(other)
            if read.producer is not None and read.producer.folder == artefact.folder
        ]
        is_as_published = sha256_path(artefact.folder) == artefact.sha256
        return PathTrace(path, artefact, is_as_published, readers, _training_below(graph, [artefact]))
    digest = sha256_path(path)
    readers = [
        (other, read)
        for other in graph.artefacts
        for read in graph.inputs(other)
        if read.producer is None and read.record.sha256 == digest
    ]
    if not readers:
        raise InputError(
            f"{path}: no stage of {len(graph.artefacts)} wrote it, or read it as it is now; check --runs, or ask for a "
            "file that was an input as a whole"
        )
    return PathTrace(path, None, True, readers, _training_below(graph, [other for other, _ in readers]))


def _training_below(graph: ArtefactGraph, start: Sequence[Artefact]) -> list[Artefact]:
    """The training stages among these artefacts and all that was made of them, in the order of time."""
    folders = {one.folder for artefact in start for one in (artefact, *graph.descendants(artefact))}
    return [one for one in graph.artefacts if one.folder in folders and is_training(one)]
