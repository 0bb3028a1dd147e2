"""Training conversations: what SFT reads, one JSON object a line with its provenance."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from megatron_redone.common.errors import DataError
from megatron_redone.common.jsonl import read_jsonl, write_jsonl
from megatron_redone.common.seeding import derive_seed
from megatron_redone.curation.config import SFTSetConfig
from megatron_redone.data.conversation import Message
from megatron_redone.tasks.base import Row
from megatron_redone.tasks.catalogue import get_task


@dataclass(frozen=True)
class TrainingConversation:
    """A conversation that ends with the answer to learn, and where it comes from."""

    id: str
    """Id of the row."""
    task: str
    messages: Sequence[Message]
    origin: str
    """"gold", or what made the answer, for example "best of 8, quality 0.93"."""

    def to_json(self) -> dict[str, Any]:
        """The object of a line."""
        return {"id": self.id, "task": self.task, "messages": list(self.messages), "origin": self.origin}


def gold_conversation(row: Row) -> TrainingConversation:
    """The row's prompt with its gold answer (after its rationale, if it has one).

    Raises:
        DataError: the row has no gold answer, which rows of some tasks may lack.
    """
    task = get_task(row.task)
    if row.answer == "":
        raise DataError(f"row {row.id!r} of {row.task} has no gold answer to train on; leave it to rewards")
    messages = [*task.render(row), {"role": "assistant", "content": task.target(row)}]
    return TrainingConversation(row.id, row.task, messages, "gold")  # type: ignore[arg-type]


def balanced(rows: Sequence[Row], per_task: int | None, seed: int) -> list[Row]:
    """At most `per_task` rows of each task, in turn from each language, chosen by a hash of seed and id."""
    ordered = sorted(rows, key=lambda row: derive_seed(seed, "choose", row.id))
    if per_task is None:
        return ordered
    buckets: dict[str, dict[str, list[Row]]] = {}
    for row in ordered:
        buckets.setdefault(row.task, {}).setdefault(row.language, []).append(row)
    chosen = []
    for task in sorted(buckets):
        languages = [buckets[task][language] for language in sorted(buckets[task])]
        in_turn = [rows[place] for place in range(max(map(len, languages))) for rows in languages if place < len(rows)]
        chosen += in_turn[:per_task]
    return chosen


def sft_set(config: SFTSetConfig, rows: Sequence[Row], general: Sequence[Row], seed: int) -> list[TrainingConversation]:
    """Gold conversations of task rows and general rows."""
    chosen = balanced(rows, config.rows_per_task, seed)
    return [gold_conversation(row) for row in [*chosen, *balanced(general, None, seed)[: config.general_rows]]]


def write_conversations(path: Path, conversations: Iterable[TrainingConversation]) -> int:
    """Writes them; returns how many."""
    return write_jsonl(path, (conversation.to_json() for conversation in conversations))


def read_conversations(path: Path) -> list[TrainingConversation]:
    """Reads what `write_conversations` wrote.

    Raises:
        DataError: a line lacks a key.
    """
    found = []
    for number, value in read_jsonl(path):
        missing = {"id", "task", "messages", "origin"} - value.keys()
        if missing:
            raise DataError(f"{path}:{number}: lacks {', '.join(sorted(missing))}; build the set again")
        found.append(TrainingConversation(**{name: value[name] for name in ("id", "task", "messages", "origin")}))
    return found
