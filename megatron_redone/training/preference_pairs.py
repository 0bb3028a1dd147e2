"""Preference pairs as tokens: two documents with one prompt, of which the answers are learnt."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from megatron_redone.common.errors import DataError
from megatron_redone.data.chat_template import ChatTemplate
from megatron_redone.data.conversation import Message
from megatron_redone.data.document import Document
from megatron_redone.data.document_store import DocumentStore
from megatron_redone.training.config import DPOConfig


@dataclass(frozen=True)
class PreferencePair:
    """Two answers to one conversation.

    Attributes:
        messages: up to and including the user's last turn; of a prompt in text, that text as the user's turn.
        from_text: whether the prompt was a text.
        chosen_reward, rejected_reward: scores in the data's own unit, where it has any.
    """

    id: str
    messages: Sequence[Message]
    chosen: str
    rejected: str
    chosen_reward: float | None = None
    rejected_reward: float | None = None
    from_text: bool = False


class PairSet:
    """The pairs of a stage as tokens on disk; in memory stay lengths, ids and rewards. Close it, or use `with`.

    Rules: the template's end token is put behind every answer, so that none is without; an answer that spells it at its
    end loses that first (`end_tokens_stripped`). Refused are pairs whose answers spell another special token or are
    equal as tokens, prompts in text that spell one (unless `prompt_texts: templated`), and, for the rpo losses, pairs
    without both rewards. A pair is too long when the longer of its two documents has more than `max_length` tokens: it
    is dropped, or the first tokens of both prompts are, so that the longer document fits; where not one token of the
    prompt would stay, the pair is dropped in any case.

    Attributes:
        ids: of the pairs.
        rewards: chosen and rejected reward of each pair; 0 where no loss reads them.
        counts: `dropped_too_long`, `truncated_prompts`, `end_tokens_stripped`.
    """

    def __init__(self, config: DPOConfig, template: ChatTemplate) -> None:
        self.config, self.template = config, template
        self.needs_rewards = config.loss.startswith("rpo")
        self.ids: list[str] = []
        self.rewards: list[tuple[float, float]] = []
        self.counts: Counter[str] = Counter(dropped_too_long=0, truncated_prompts=0, end_tokens_stripped=0)
        self._store = DocumentStore()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._store.__exit__()

    def __len__(self) -> int:
        return len(self.ids)

    def add(self, pair: PreferencePair) -> None:
        """Takes a pair, or counts it as too long.

        Raises:
            DataError: one of the rules above; the message does not say where the pair stands.
        """
        prompt = self._prompt_ids(pair)
        chosen, rejected = (self._answer_ids(pair, text) for text in (pair.chosen, pair.rejected))
        if chosen == rejected:
            raise DataError("the two answers are the same tokens; there is nothing to prefer")
        if self.needs_rewards and (pair.chosen_reward is None or pair.rejected_reward is None):
            raise DataError(
                f"loss={self.config.loss!r} needs chosen_reward and rejected_reward in every pair; take another loss"
            )
        room = self.config.max_length - max(len(chosen), len(rejected))
        if len(prompt) > room:
            if self.config.too_long == "drop" or room < 1:
                self.counts["dropped_too_long"] += 1
                return
            self.counts["truncated_prompts"] += 1
            prompt = prompt[-room:]
        for answer in (chosen, rejected):
            self._store.add(prompt + answer, [False] * len(prompt) + [True] * len(answer), 1.0, pair.id)
        self.ids.append(pair.id)
        self.rewards.append((pair.chosen_reward or 0.0, pair.rejected_reward or 0.0))

    def documents(self, index: int) -> tuple[Document, Document]:
        """Chosen and rejected document of a pair, without signals."""
        return self._store.document(2 * index), self._store.document(2 * index + 1)

    def _prompt_ids(self, pair: PreferencePair) -> list[int]:
        if not pair.from_text:
            return self.template.prompt_ids(pair.messages)
        text = pair.messages[-1]["content"]
        if self.config.prompt_texts == "templated":
            return self.template.templated_ids(text)
        spelled = self.template.spelled_special(text)
        if spelled is not None:
            raise DataError(
                f"the prompt spells {spelled!r}, so it seems to stand in a chat template already; "
                "set prompt_texts: templated, or give `messages`"
            )
        return self.template.prompt_ids(pair.messages)

    def _answer_ids(self, pair: PreferencePair, text: str) -> list[int]:
        """The answer's ids with the end token."""
        shortened = text.rstrip().removesuffix(self.template.end_token)
        if shortened != text.rstrip():
            self.counts["end_tokens_stripped"] += 1
            text = shortened
        spelled = self.template.spelled_special(text)
        if spelled is not None:
            raise DataError(f"an answer spells the special token {spelled!r}; mend it or leave the pair out")
        if not text.strip():
            raise DataError("an answer is empty; leave the pair out")
        if not pair.from_text:
            answer = Message(role="assistant", content=text)
            self.template.training_ids([*pair.messages, answer])  # refuses what the template would write otherwise
        return [*self.template.answer_ids(text), self.template.end_id]
