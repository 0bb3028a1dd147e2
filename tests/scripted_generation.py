"""A generation engine without a model: it answers by a function of the prompt's text and the sample's number."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from megatron_redone.data.chat_template import ChatTemplate
from megatron_redone.data.tokenizer import train_sentencepiece
from megatron_redone.generation.base import Completion, SamplingParams
from megatron_redone.tasks.base import Row

CONFIDENCE = math.exp(-0.5)
"""Mean token probability of every answer."""


def sum_row(number: int, task: str = "arithmetic") -> Row:
    """A sum whose answer is `number` + 1."""
    return Row(f"{task}-{number}", task, "en", {"question": f"{number} + 1"}, str(number + 1))


def number_in(prompt: str) -> int:
    """The number that a `sum_row`'s prompt asks for, before 1 is added."""
    return int(prompt.split("Calculate: ")[-1].split(" +")[0])


def sums_template(folder: Path) -> ChatTemplate:
    """A chat template over a tokenizer trained on sums."""
    texts = [f"Calculate: what is {a} + {b}? the answer is {a + b}" for a in range(12) for b in range(12)]
    return ChatTemplate(train_sentencepiece(texts, folder, 330, 0))


class ScriptedGenerator:
    """Answers that end with the stop token, of tokens with equal probability."""

    def __init__(self, template: ChatTemplate, answer: Callable[[str, int], str]) -> None:
        self.template, self.answer = template, answer

    def generate(
        self, prompts: Sequence[Sequence[int]], params: SamplingParams, keys: Sequence[str]
    ) -> list[list[Completion]]:
        results = []
        for prompt in prompts:
            text = self.template.tokenizer.decode(prompt)
            samples = []
            for number in range(params.num_samples):
                ids = (*self.template.answer_ids(self.answer(text, number)), self.template.end_id)
                samples.append(Completion(ids, tuple(-0.5 for _ in ids), "stop"))
            results.append(samples)
        return results

    def update_weights(self, stream: Iterable[tuple[str, Any]], version: int) -> None: ...

    def sleep(self) -> None: ...

    def wake_up(self) -> None: ...

    def close(self) -> None: ...
