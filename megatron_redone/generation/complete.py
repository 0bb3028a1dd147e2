"""Texts for conversations: the seam between whoever asks a model (judges, labellers) and a generation engine."""

from __future__ import annotations

from collections.abc import Sequence

from megatron_redone.common.seeding import derive_seed
from megatron_redone.data.chat_template import ChatTemplate
from megatron_redone.data.conversation import Message
from megatron_redone.generation.base import GenerationEngine, SamplingParams
from megatron_redone.generation.config import GenerationConfig
from megatron_redone.generation.prompts import fit_prompt


class Completer:
    """One answer to each conversation, as text without its end token; "" where the prompt is too long (`drop`)."""

    def __init__(self, engine: GenerationEngine, template: ChatTemplate, config: GenerationConfig, seed: int) -> None:
        self.engine, self.template, self.config, self.seed = engine, template, config, seed

    def __call__(self, conversations: Sequence[Sequence[Message]]) -> list[str]:
        """The answers, in order. Every rank of a parallel job calls it alike."""
        prompts = [fit_prompt(self.template.prompt_ids(messages), self.config) for messages in conversations]
        fitting = [prompt for prompt in prompts if prompt is not None]
        params = SamplingParams.of(self.config, self.template.stop_ids, seed=derive_seed(self.seed, "complete"))
        keys = [str(derive_seed(*prompt)) for prompt in fitting]
        answers = iter(self.engine.generate(fitting, params, keys) if fitting else [])
        return ["" if prompt is None else self._text(next(answers)[0].token_ids) for prompt in prompts]

    def _text(self, token_ids: Sequence[int]) -> str:
        ended = bool(token_ids) and token_ids[-1] in self.template.stop_ids
        return self.template.tokenizer.decode(token_ids[:-1] if ended else token_ids)
