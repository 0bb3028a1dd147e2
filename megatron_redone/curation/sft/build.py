"""SFT sets: the pool of all inputs, and for each step of the schedule its mix, written and measured.

Memory grows with the number of rows by about 100 bytes each, never with their text: the inputs are read once into the
pool on disk, and each set is one pass over it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from megatron_redone.common.files import atomic_write_json
from megatron_redone.common.logging import get_logger
from megatron_redone.curation.conversations import TrainingConversation
from megatron_redone.curation.held_out import HeldOut
from megatron_redone.curation.sft.config import MixConfig, SFTSetConfig
from megatron_redone.curation.sft.mixing import GENERAL, Choice, TaskShare, choose
from megatron_redone.curation.sft.pool import CountTokens, Limits, Pool, SourceFile, build_pool, remove_pool
from megatron_redone.data.chat_template import ChatTemplate
from megatron_redone.data.lengths import LengthHistogram
from megatron_redone.data.packing import best_fit_bins
from megatron_redone.reporting.data_schema import LengthSummary, PackingResult, RowCount, SFTSetResult, TaskRows

LOG = get_logger("sft_set")
POOL = ".pool"
CONVERSATIONS = "conversations.jsonl"
NOTABLE_SHARE = 0.005
"""A general share that is missed by more is told on the terminal."""


@dataclass
class BuiltSets:
    """What was made: counts for the manifest, and one line `file:line: reason` per refused row."""

    counts: dict[str, int | float] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)


def build_sft_sets(
    config: SFTSetConfig,
    files: Sequence[SourceFile],
    work: Path,
    count_tokens: CountTokens | None,
    max_refused_share: float,
    seed: int,
    held_out: HeldOut | None = None,
) -> BuiltSets:
    """Writes the sets into `work`: one, or `step1/`, `step2/`, ... of the schedule.

    Args:
        held_out: rows that stand in it are left out and counted.

    Raises:
        DataError: too many bad rows in a file, or settings that the rows cannot meet.
    """
    limits = Limits(config.sequence_length, config.too_long, max_refused_share, config.latin_language, held_out)
    pool = build_pool(files, work / POOL, seed, limits, count_tokens)
    built = BuiltSets(refused=pool.refused)
    built.counts = {
        name if name.startswith("held_out/") else f"pool/{name}": count for name, count in pool.counts.items()
    }
    built.counts |= {f"rows_refused/{name}": count for name, count in pool.refused_by_file.items()}
    for number, mix in enumerate(config.mixes, start=1):
        folder = work / f"step{number}" if config.schedule else work
        folder.mkdir(exist_ok=True)
        choice = choose(pool, mix)
        write_set(pool, choice, folder / CONVERSATIONS)
        result = describe(pool, mix, choice, config.sequence_length if count_tokens else None, seed)
        atomic_write_json(folder / "set.json", result.model_dump(mode="json"))
        _warn_of_shares(result, folder)
        prefix = f"step{number}/" if config.schedule else ""
        built.counts |= {f"{prefix}{name}": count for name, count in _counts(result).items()}
    remove_pool(work / POOL)
    return built


def token_counter(template: ChatTemplate) -> CountTokens:
    """Counts the tokens that a conversation has in training."""

    def count(conversation: TrainingConversation) -> int:
        return len(template.training_ids(conversation.messages).token_ids)

    return count


def write_set(pool: Pool, choice: Choice, path: Path) -> None:
    """The chosen rows in the order of the pool; the second and later copies of a row have `#2`, ... after the id."""
    with path.open("wb") as out:
        for line, copies in zip(pool.lines(), choice.copies.tolist(), strict=True):
            if copies:
                out.write(line)
            for number in range(2, copies + 1):
                value = json.loads(line)
                value["id"] = f"{value['id']}#{number}"
                out.write(json.dumps(value, ensure_ascii=False).encode("utf-8") + b"\n")


def describe(pool: Pool, mix: MixConfig, choice: Choice, sequence_length: int | None, seed: int) -> SFTSetResult:
    """Counts of a set by task, capability, language and source, and with a sequence length its packing."""
    copies = choice.copies
    total = int(copies.sum())
    by_stratum = np.bincount(pool.columns["stratum"], weights=copies, minlength=len(pool.strata))
    by_source = np.bincount(pool.columns["source"], weights=copies, minlength=len(pool.sources))

    def grouped(names: Sequence[str], rows: NDArray[Any]) -> dict[str, RowCount]:
        sums: dict[str, int] = {}
        for name, count in zip(names, rows, strict=True):
            sums[name] = sums.get(name, 0) + int(count)
        return {name: RowCount(rows=n, share=n / total) for name, n in sorted(sums.items()) if n}

    general = sum(task.rows for task in choice.tasks if task.part == GENERAL)
    result = SFTSetResult(
        rows=total,
        different_rows=int((copies > 0).sum()),
        num_rows_asked=mix.num_rows,
        general_share_asked=choice.general_share_asked,
        general_share=general / total,
        tasks=tuple(_task_rows(task, total) for task in choice.tasks),
        by_capability=grouped([stratum.capability for stratum in pool.strata], by_stratum),
        by_language=grouped([stratum.language for stratum in pool.strata], by_stratum),
        by_source=grouped(pool.sources, by_source),
        settings=mix.model_dump(mode="json"),
        seed=seed,
    )
    if sequence_length is None:
        return result
    lengths = np.repeat(pool.columns["tokens"], copies)
    measured = {"tokens": summary(LengthHistogram(lengths.tolist())), "packing": packing_of(lengths, sequence_length)}
    return result.model_copy(update=measured)


def packing_of(lengths: NDArray[np.int32], sequence_length: int) -> PackingResult:
    """Best fit of the lengths, the longest first."""
    ordered = np.sort(lengths)[::-1].tolist()
    num_bins = len(best_fit_bins(ordered, sequence_length))
    efficiency = sum(ordered) / (num_bins * sequence_length)
    return PackingResult(sequence_length=sequence_length, packed_rows=num_bins, efficiency=efficiency)


def summary(lengths: LengthHistogram) -> LengthSummary:
    """Median, 95th percentile and longest."""
    return LengthSummary(
        count=lengths.count,
        total=lengths.total,
        median=lengths.quantile(0.5),
        p95=lengths.quantile(0.95),
        longest=lengths.longest,
    )


def _task_rows(task: TaskShare, total: int) -> TaskRows:
    return TaskRows(
        part="general" if task.part == GENERAL else "sns",
        capability=task.capability,
        task=task.task,
        available=task.available,
        rows=task.rows,
        share_asked=task.asked,
        share_reached=task.rows / total,
        sampling_rate=task.rows / task.available,
        bound=task.bound,
    )


def _warn_of_shares(result: SFTSetResult, folder: Path) -> None:
    """Says so where the inputs do not hold what was asked for."""
    asked, reached = result.general_share_asked, result.general_share
    if asked is not None and abs(reached - asked) > max(1 / result.rows, NOTABLE_SHARE):
        LOG.warning(
            "%s: general share %.3f instead of %.3f, since the inputs have no more rows of one part; give more rows or "
            "raise max_repeats",
            folder.name,
            reached,
            asked,
        )
    if result.num_rows_asked is not None and result.rows < result.num_rows_asked:
        LOG.warning("%s: %d rows instead of num_rows=%d", folder.name, result.rows, result.num_rows_asked)


def _counts(result: SFTSetResult) -> Mapping[str, int | float]:
    counts: dict[str, int | float] = {
        "conversations": result.rows,
        "different_rows": result.different_rows,
        "general_share": result.general_share,
    }
    if result.tokens is not None and result.packing is not None:
        counts |= {
            "tokens": result.tokens.total,
            "packed_rows": result.packing.packed_rows,
            "packing_efficiency": result.packing.efficiency,
        }
    return counts
