"""A preference pair, and the line it becomes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from megatron_redone.data.conversation import Message
from megatron_redone.scoring.normalise import tidy
from megatron_redone.tasks.base import Row
from megatron_redone.tasks.catalogue import get_task

How = Literal["option_order", "model_errors", "own_answers", "judge", "given"]


@dataclass(frozen=True)
class Pair:
    """Two answers to one conversation, the better one named.

    Attributes:
        messages: up to and including the user's last turn.
        chosen, rejected: the answers, as the assistant writes them.
        how: which source made the pair.
        source: where the row or pair came from.
        row: id of the row, or of the line of a file.
        task: its task; "" for conversations of no task.
        language: `en` or `zh`.
        chosen_reward, rejected_reward: scores in the source's own unit, where it has any.
        detail: what else the source knows, for the lineage of the pair; JSON values.
        origin: the task row, where there is one: its parser says which answers are the same.
    """

    messages: Sequence[Message]
    chosen: str
    rejected: str
    how: How
    source: str
    row: str
    task: str
    language: str
    chosen_reward: float | None = None
    rejected_reward: float | None = None
    detail: Mapping[str, Any] = field(default_factory=dict)
    origin: Row | None = None

    @property
    def prompt_key(self) -> str:
        """Hash of the conversation."""
        return _hash([dict(message) for message in self.messages])

    @property
    def id(self) -> str:
        """By what the pair says: equal pairs have equal ids wherever they come from."""
        return f"pair-{_hash([self.prompt_key, self.chosen, self.rejected])}"

    @property
    def unordered_key(self) -> str:
        """Alike for a pair and the one that prefers the other answer."""
        return _hash([self.prompt_key, *sorted((self.chosen, self.rejected))])

    @property
    def same_answers(self) -> bool:
        """Whether the answers are equal but for white space, or read alike by the task's parser."""
        if tidy(self.chosen) == tidy(self.rejected):
            return True
        if self.origin is None:
            return False
        task = get_task(self.origin.task)
        chosen = task.parse(self.chosen, self.origin)
        return chosen is not None and chosen == task.parse(self.rejected, self.origin)

    @property
    def worse_chosen(self) -> bool:
        """Whether the rejected answer scores at least as high as the chosen one."""
        if self.chosen_reward is None or self.rejected_reward is None:
            return False
        return self.rejected_reward >= self.chosen_reward

    def to_json(self, prompt: str) -> dict[str, Any]:
        """The object of a line: what NeMo-Aligner reads (rewards only where there are any), then where it is from."""
        rewards = {"chosen_reward": self.chosen_reward, "rejected_reward": self.rejected_reward}
        return {
            "id": self.id,
            "prompt": prompt,
            "chosen_response": self.chosen,
            "rejected_response": self.rejected,
            **{name: value for name, value in rewards.items() if value is not None},
            "messages": [dict(message) for message in self.messages],
            "source": self.source,
            "row": self.row,
            "task": self.task,
            "language": self.language,
            "how": self.how,
            "detail": dict(self.detail),
        }


def _hash(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=True, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()
