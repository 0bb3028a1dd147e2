"""The passes over a corpus, in order: which steps each task of a pass runs, and how many tasks there are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datatrove.pipeline.dedup.minhash import MinhashDedupBuckets, MinhashDedupFilter

from megatron_redone.curation.filter import judges, repeated, steps
from megatron_redone.curation.filter.config import FilterConfig, MinHashConfig
from megatron_redone.curation.filter.near_duplicates import Clusters, Signatures, datatrove_config
from megatron_redone.curation.filter.pieces import Piece

BYTES_PER_RANGE = 4 << 30
"""Input bytes for each range of hashes in the search for exact duplicates: some ten million documents a range."""
LINES_TO_BUFFER = 2000
"""Signatures that datatrove reads at a time from each file."""


@dataclass(frozen=True)
class Pass:
    """Tasks that may run side by side; the next pass begins when all are done."""

    name: str
    num_tasks: int
    pipeline: list[Any]
    uses_model: bool = False


@dataclass(frozen=True)
class Inputs:
    """What a run reads besides its settings, and where its result goes."""

    pieces: list[list[Piece]]
    corpus: Path
    """Folder that gets the kept shards."""
    benchmarks: Sequence[Path] = ()
    model: Path | None = None
    tone_model: Path | None = None


class Folders:
    """Where the passes of a run leave things."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.accounts = root / "accounts"
        self.judged = root / "judged"
        self.hashes = root / "hashes"
        self.repeated_ids = root / "repeated_ids"
        self.repeated_texts = root / "repeated_texts"
        self.signatures = root / "signatures"
        self.pairs = root / "pairs"
        self.removals = root / "removals"
        self.index = root / "benchmarks"
        self.unique = root / "unique"
        self.scores = root / "scores"
        self.bounds = root / "bounds.json"


def plan_passes(config: FilterConfig, inputs: Inputs, root: Path, seed: int) -> list[Pass]:
    """The passes of a run.

    Args:
        root: a folder that all tasks see, on a cluster as well.
    """
    at, tasks = Folders(root), len(inputs.pieces)
    size = sum(
        (piece.stop or Path(piece.path).stat().st_size) - piece.start for task in inputs.pieces for piece in task
    )
    num_ranges = max(1, -(-size // BYTES_PER_RANGE))
    accounts = steps.Accounts(at.accounts, config, seed)
    passes = [
        Pass(
            "rules",
            tasks,
            [
                steps.ReadAndJudge(inputs.pieces, accounts),
                steps.WriteShard("judged", at.judged),
                repeated.WriteRecords(at.hashes),
            ],
        ),
        Pass("ids", num_ranges, [repeated.FindRepeated("ids", at.hashes, at.repeated_ids, tasks)]),
        Pass(
            "texts", num_ranges, [repeated.FindRepeated("texts", at.hashes, at.repeated_texts, tasks, at.repeated_ids)]
        ),
    ]
    last: list[Any] = [steps.ReadShard(at.judged), repeated.DropRepeated(at.repeated_ids, at.repeated_texts, accounts)]
    if config.minhash is not None:
        passes += _near_duplicates(config.minhash, at, tasks, accounts)
        recorder = repeated.NearDuplicateRecorder(accounts)
        last.append(MinhashDedupFilter(str(at.removals), exclusion_writer=recorder))
    if config.decontamination is not None:
        passes.append(
            Pass("benchmarks", 1, [judges.IndexBenchmarks([*inputs.benchmarks], config.decontamination, at.index)])
        )
        last.append(judges.Decontaminate(at.index, accounts))
    if config.language_model is not None:
        assert inputs.model is not None
        model = config.language_model
        passes += [
            Pass("unique", tasks, [*last, steps.WriteShard("unique", at.unique)]),
            Pass(
                "likelihood",
                tasks,
                [steps.ReadShard(at.unique), judges.ScoreLikelihood(inputs.model, model, at.scores)],
                uses_model=True,
            ),
            Pass("bounds", 1, [judges.FindBounds(at.scores, model, at.bounds, seed)]),
        ]
        last = [steps.ReadShard(at.unique), judges.DropUnlikely(at.scores, at.bounds, accounts)]
    if config.tone is not None:
        assert inputs.tone_model is not None
        last.append(judges.DropTone(inputs.tone_model, config.tone, accounts))
    passes.append(Pass("keep", tasks, [*last, steps.CountKept(accounts), steps.WriteCorpus("corpus", inputs.corpus)]))
    return passes


def _near_duplicates(config: MinHashConfig, at: Folders, tasks: int, accounts: steps.Accounts) -> list[Pass]:
    """datatrove's four stages less the last, which filters."""
    settings = datatrove_config(config)
    unique = repeated.DropRepeated(at.repeated_ids, at.repeated_texts, accounts, accounted=False)
    return [
        Pass("signatures", tasks, [steps.ReadShard(at.judged), unique, Signatures(at.signatures, config)]),
        Pass(
            "bands",
            config.num_buckets * config.tasks_per_bucket,
            [MinhashDedupBuckets(str(at.signatures), str(at.pairs), config=settings, lines_to_buffer=LINES_TO_BUFFER)],
        ),
        Pass("clusters", 1, [Clusters(at.pairs, at.removals)]),
    ]
