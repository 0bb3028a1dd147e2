"""The text of a prompt, and whether a tokenizer keeps prompt and answer apart.

NeMo-Aligner's DPO data set encodes prompt and prompt + answer as texts and demands that the ids of the first are the
beginning of the second's. A tokenizer that merges the end of a prompt with the beginning of an answer breaks that.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from megatron_redone.curation.pairs.pair import Pair
from megatron_redone.data.chat_template import ChatTemplate
from megatron_redone.data.conversation import Message
from megatron_redone.data.jinja_template import CHATML, compile_template
from megatron_redone.data.tokenizer import load_tokenizer

CHATML_TOKENS = ("<|im_start|>", "<|im_end|>")


@dataclass(frozen=True)
class CheckedText:
    """A pair's prompt as text, what is wrong with the pair ("" if nothing), and lengths in tokens where known."""

    prompt: str
    problem: str = ""
    prompt_tokens: int | None = None
    chosen_tokens: int | None = None
    rejected_tokens: int | None = None


class PromptWriter:
    """Writes prompts by the chat template of a tokenizer, or as ChatML where there is none.

    Raises:
        InputError: the folder holds no tokenizer that we can read.
    """

    def __init__(self, tokenizer: Path | None, max_tokens: int) -> None:
        self.max_tokens = max_tokens
        self._template = ChatTemplate(load_tokenizer(tokenizer)) if tokenizer is not None else None
        self._chatml = compile_template(CHATML, None)
        specials = self._template.tokenizer.special_tokens if self._template is not None else CHATML_TOKENS
        ordered = sorted(specials, key=len, reverse=True)
        self._special = re.compile("(" + "|".join(map(re.escape, ordered)) + ")")
        # a thought's marks are part of answers, also where they are tokens
        spelled = [token for token in ordered if token not in ("<think>", "</think>")]
        self._unwanted = re.compile("|".join(map(re.escape, spelled)))

    def prompt(self, messages: Sequence[Message]) -> str:
        """The text up to where the answer begins."""
        if self._template is not None:
            return self._template.render(messages, add_generation_prompt=True)
        return self._chatml.render(messages=[dict(message) for message in messages], add_generation_prompt=True)

    def check(self, pair: Pair) -> CheckedText:
        """Special tokens that a text spells; tokens over the border; more tokens than the limit."""
        prompt = self.prompt(pair.messages)
        texts = [*(message["content"] for message in pair.messages), pair.chosen, pair.rejected]
        if any(self._unwanted.search(text) for text in texts):
            return CheckedText(prompt, "spelled_special_token")
        if self._template is None:
            return CheckedText(prompt)
        prompt_ids = self.ids(prompt)
        whole = [self.ids(prompt + answer) for answer in (pair.chosen, pair.rejected)]
        if any(ids[: len(prompt_ids)] != prompt_ids for ids in whole):
            return CheckedText(prompt, "token_over_border")
        lengths = [len(ids) - len(prompt_ids) for ids in whole]
        over = len(prompt_ids) + max(lengths) + 1 > self.max_tokens  # one more that ends the answer
        return CheckedText(prompt, "over_max_tokens" if over else "", len(prompt_ids), *lengths)

    def ids(self, text: str) -> list[int]:
        """The ids of a text in which special tokens are tokens, as NeMo-Aligner's data set encodes it."""
        assert self._template is not None
        tokenizer = self._template.tokenizer
        ids: list[int] = []
        for place, part in enumerate(self._special.split(text)):
            if place % 2:
                ids.append(tokenizer.special_tokens[part])
            elif part:
                ids += tokenizer.encode(part)
        return ids
