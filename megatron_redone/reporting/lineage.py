"""Which stage read what of which stage, from the manifests."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from megatron_redone.reporting.run_files import RunFiles, StageFiles
from megatron_redone.reporting.schema import FileRecord


@dataclass(frozen=True)
class Node:
    """All seeds of one stage."""

    name: str
    kind: str
    num_seeds: int
    """0 for a stage that is shared by all seeds."""
    status: str
    """The seeds' common status, or `partly done`."""
    is_arm: bool
    outside: tuple[str, ...]
    """Names of inputs that no stage of the run made."""


@dataclass(frozen=True)
class Edge:
    """`consumer` read `artefacts` of `producer` (node indices)."""

    producer: int
    consumer: int
    artefacts: tuple[str, ...]


@dataclass(frozen=True)
class FileRow:
    """One file record of one manifest."""

    stage: str
    direction: str
    name: str
    path: str
    sha256: str


@dataclass(frozen=True)
class Lineage:
    """Stages in the order of the run, the arrows between them and all file records."""

    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
    files: tuple[FileRow, ...]


def build_lineage(run: RunFiles) -> Lineage:
    """Ties inputs to stages: by a path among a stage's outputs or in its folder, else by an equal hash."""
    names = run.names()
    arrows: dict[tuple[int, int], dict[str, None]] = {}
    outside: dict[str, dict[str, None]] = {name: {} for name in names}
    rows: list[FileRow] = []
    for files in run.stages:
        if files.manifest is None:
            continue
        for label, record in sorted(files.manifest.inputs.items()):
            rows.append(FileRow(files.title, "reads", label, record.path, record.sha256))
            producer = _producer(run, files, record)
            if producer is None:
                outside[files.stage.name][label] = None
            elif producer.stage.name != files.stage.name:
                key = (names.index(producer.stage.name), names.index(files.stage.name))
                arrows.setdefault(key, {})[label] = None
        for label, record in sorted(files.manifest.outputs.items()):
            rows.append(FileRow(files.title, "writes", label, record.path, record.sha256))
    nodes = tuple(_node(run, name, tuple(outside[name])) for name in names)
    edges = tuple(Edge(*key, artefacts=tuple(labels)) for key, labels in sorted(arrows.items()))
    return Lineage(nodes, edges, tuple(rows))


def _node(run: RunFiles, name: str, outside: tuple[str, ...]) -> Node:
    members = run.of_name(name)
    statuses = {files.stage.status for files in members}
    return Node(
        name=name,
        kind=members[0].stage.kind,
        num_seeds=sum(files.stage.seed is not None for files in members),
        status=statuses.pop() if len(statuses) == 1 else "partly done",
        is_arm=name in run.arms(),
        outside=outside,
    )


def _producer(run: RunFiles, consumer: StageFiles, record: FileRecord) -> StageFiles | None:
    others = [files for files in run.stages if files is not consumer]
    path = _relative(run.folder, record.path)
    for files in others:
        outputs = files.manifest.outputs.values() if files.manifest else ()
        made = {_relative(run.folder, output.path) for output in outputs}
        made.add(PurePosixPath(files.stage.folder))
        if made & {path, *path.parents}:
            return files
    for files in others:
        if files.manifest and record.sha256 in {output.sha256 for output in files.manifest.outputs.values()}:
            return files
    return None


def _relative(folder: Path, path: str) -> PurePosixPath:
    """`path` seen from the run folder when it lies below."""
    resolved = Path(path)
    if resolved.is_absolute() and resolved.is_relative_to(folder.absolute()):
        resolved = resolved.relative_to(folder.absolute())
    return PurePosixPath(resolved.as_posix())
