"""Training, diagnosis and test rows from files of SNS-Bench (English; CC BY-NC-SA 4.0, given by path).

The benchmark is made for testing only. A model trained on some of its rows is compared with itself on the others;
its scores are not comparable with published ones.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from megatron_redone.common.errors import DataError, InputError
from megatron_redone.common.seeding import derive_seed, rng
from megatron_redone.curation.config import SNSBenchRowsConfig
from megatron_redone.curation.sns_bench_formats import Item, read_item, task_of_file
from megatron_redone.curation.synthesize.sums import draw_sum
from megatron_redone.scoring.normalise import loose
from megatron_redone.tasks.catalogue import get_task
from megatron_redone.tasks.row import Row

SPLITS = ("train", "diagnosis", "test")
SOURCE = "sns-bench"
LANGUAGE = "en"
GENERAL_TASK = "arithmetic"
MAX_PROBLEMS_SHOWN = 5
_DRAWS_PER_SUM = 20


@dataclass
class SNSBenchRows:
    """Rows by split, `general` among them, one line `file#index: reason` per refused item, and counts by file."""

    rows: dict[str, list[Row]]
    refused: list[str] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)


def sns_bench_rows(config: SNSBenchRowsConfig, folder: Path, max_refused_share: float, seed: int) -> SNSBenchRows:
    """Reads the files, leaves out what is long or said twice, and splits the rest by a hash of its texts.

    No text stands in two splits: rows that share a title, a post, a query or a comment go together, over all files.

    Raises:
        DataError: a file is missing or damaged, or more than `max_refused_share` of its items are refused.
    """
    found = SNSBenchRows({})
    kept: list[tuple[Row, Item]] = []
    for file in config.tasks:
        pairs, refused = rows_of_file(folder / f"{file}.json", file, max_refused_share)
        found.refused += refused
        fitting = [pair for pair in pairs if _prompt_words(pair[0]) <= config.max_prompt_words]
        once = list({json.dumps(pair[0].fields, sort_keys=True): pair for pair in reversed(fitting)}.values())[::-1]
        found.counts |= {
            f"{file}/refused": len(refused),
            f"{file}/too_long": len(pairs) - len(fitting),
            f"{file}/repeated": len(fitting) - len(once),
            f"{file}/rows": len(once),
        }
        kept += once
    found.rows = _split(kept, config)
    found.rows["general"] = arithmetic_rows(config.general_rows, seed)
    for split, rows in found.rows.items():
        found.counts[f"rows/{split}"] = len(rows)
    return found


def rows_of_file(path: Path, file: str, max_refused_share: float) -> tuple[list[tuple[Row, Item]], list[str]]:
    """(row, item) of each valid item of one benchmark file, and what was refused.

    Raises:
        DataError: no such file, not a list of items, or too many of them refused.
    """
    task = get_task(task_of_file(file))
    values = _read_list(path)
    pairs: list[tuple[Row, Item]] = []
    refused: list[str] = []
    for index, value in enumerate(values):
        where = f"{path}#{index}"
        try:
            item = read_item(file, value, where)
        except DataError as error:
            refused.append(str(error))
            continue
        row = Row(f"{file}-{index}", task.name, LANGUAGE, item.fields, item.answer, source=f"{SOURCE}/{file}#{index}")
        problems = task.validate(row)
        if problems:
            refused.append(f"{where}: " + "; ".join(problems))
        else:
            pairs.append((row, item))
    if not pairs or len(refused) > max_refused_share * len(values):
        shown = "\n".join(f"  {line}" for line in refused[:MAX_PROBLEMS_SHOWN])
        raise DataError(
            f"{path}: {len(refused)} of {len(values)} items refused, but at most {max_refused_share:.0%} may be and "
            f"one must remain; correct the file or raise max_refused_share; first problems:\n{shown}"
        )
    return pairs, refused


def _read_list(path: Path) -> list[Any]:
    if not path.is_file():
        raise DataError(f"{path}: no such file; give the folder that holds the benchmark's JSON files")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # bad JSON or bad UTF-8
        raise DataError(f"{path}: not JSON ({error}); download the file again") from error
    if not isinstance(values, list):
        raise DataError(f"{path}: a {type(values).__name__}, expected a list of items; download the file again")
    return values


def _prompt_words(row: Row) -> int:
    return len(get_task(row.task).render(row)[0]["content"].split())


def _split(pairs: Sequence[tuple[Row, Item]], config: SNSBenchRowsConfig) -> dict[str, list[Row]]:
    """The rows of each split in the order of the files, at most so many of each task."""
    parent: dict[str, str] = {}

    def smallest(text: str) -> str:
        """The smallest of the texts that are tied to this one."""
        while parent[text] != text:
            parent[text] = parent[parent[text]]
            text = parent[text]
        return text

    texts = [[loose(text) or text for text in item.texts if text] for _, item in pairs]
    for members in texts:
        for text in members:
            one, other = sorted(smallest(parent.setdefault(t, t)) for t in (members[0], text))
            parent[other] = one
    rows: dict[str, list[Row]] = {split: [] for split in SPLITS}
    for (row, _), members in zip(pairs, texts, strict=True):
        rows[_split_of(smallest(members[0]), config.shares)].append(row)
    return {split: _at_most(rows[split], limit) for split, limit in zip(SPLITS, config.max_rows_per_task, strict=True)}


def _split_of(text: str, shares: Sequence[float]) -> str:
    place = derive_seed(SOURCE, "split", text) / 2**63
    for split, share in zip(SPLITS, shares, strict=True):
        if place < share:
            return split
        place -= share
    return SPLITS[-1]


def _at_most(rows: Sequence[Row], limit: int | None) -> list[Row]:
    if limit is None:
        return list(rows)
    ordered = sorted(rows, key=lambda row: derive_seed(SOURCE, "choose", row.id))
    chosen = set()
    for task in {row.task for row in rows}:
        chosen |= {row.id for row in [row for row in ordered if row.task == task][:limit]}
    return [row for row in rows if row.id in chosen]


def arithmetic_rows(count: int, seed: int) -> list[Row]:
    """Small sums, no two alike, as general rows.

    Raises:
        InputError: there are fewer sums than asked for.
    """
    random = rng(seed, SOURCE, "sums")
    rows: dict[str, Row] = {}
    for _ in range(_DRAWS_PER_SUM * count):
        if len(rows) == count:
            break
        drawn = draw_sum(random, "train")
        row_id = f"{GENERAL_TASK}-{drawn.expression.replace(' ', '')}"
        rows[row_id] = Row(
            row_id, GENERAL_TASK, LANGUAGE, {"question": drawn.question(LANGUAGE)}, drawn.answer, source="sums"
        )
    if len(rows) < count:
        raise InputError(f"general_rows={count}: only {len(rows)} different sums were found; ask for fewer")
    return list(rows.values())
