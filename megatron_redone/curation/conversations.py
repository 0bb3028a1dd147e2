"""Training conversations: what SFT reads, one JSON object a line with its provenance."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from megatron_redone.common.errors import DataError
from megatron_redone.common.jsonl import read_jsonl, write_jsonl
from megatron_redone.common.seeding import derive_seed
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
    """"gold" (of a task row), "given" (with its file), or what made the answer: "best of 8, quality 0.93"."""
    capability: str = ""
    language: str = ""
    source: str = ""
    weight: float = 1.0
    """Of sampling, > 0."""
    loss_weight: float = 1.0
    """What a token of its answers counts in the loss, > 0."""
    provenance: Mapping[str, Any] = field(default_factory=dict)
    """How a model's answer was chosen (`soft_labels.py`); left out of the line where there is nothing to tell."""

    def to_json(self) -> dict[str, Any]:
        """The object of a line."""
        found = {name: getattr(self, name) for name in KEYS} | {"messages": list(self.messages)}
        return found if self.provenance else {name: value for name, value in found.items() if name != "provenance"}


KEYS = tuple(one.name for one in fields(TrainingConversation))
REQUIRED_KEYS = ("id", "task", "messages", "origin")


def gold_conversation(row: Row) -> TrainingConversation:
    """The row's prompt with its gold answer (after its rationale, if it has one).

    Raises:
        DataError: the row has no gold answer, which rows of some tasks may lack.
    """
    task = get_task(row.task)
    if row.answer == "":
        raise DataError(f"row {row.id!r} of {row.task} has no gold answer to train on; leave it to rewards")
    messages: list[Message] = [*task.render(row), {"role": "assistant", "content": task.target(row)}]
    return TrainingConversation(
        row.id, row.task, messages, "gold", task.capability, row.language, row.source, row.weight
    )


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


def write_conversations(path: Path, conversations: Iterable[TrainingConversation]) -> int:
    """Writes them; returns how many."""
    return write_jsonl(path, (conversation.to_json() for conversation in conversations))


def read_conversations(path: Path) -> Iterator[TrainingConversation]:
    """Reads what `write_conversations` wrote, one at a time.

    Raises:
        DataError: a line lacks a key.
    """
    for number, value in read_jsonl(path):
        missing = set(REQUIRED_KEYS) - value.keys()
        if missing:
            raise DataError(f"{path}:{number}: lacks {', '.join(sorted(missing))}; build the set again")
        yield TrainingConversation(**{name: value[name] for name in KEYS if name in value})
