"""From a conversation to token ids, in one way for fine-tuning, rollouts and evaluation. Imports no torch.

The text is the template's. Three things are ours:
- Ids of special tokens come from the template alone. Where a message spells one, its characters are
  separated by a mark before the template runs, and the mark is taken out of the plain text again, so it is
  encoded as characters. `<think>` and `</think>` in an answer are the exception: they are part of the answer.
- An answer is encoded by itself, so that no token spans its border and generation sees the ids of training.
- The thoughts of earlier answers are removed, whatever the template does.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import jinja2

from megatron_redone.common.errors import DataError, InputError
from megatron_redone.data.conversation import THINK_CLOSE, THINK_OPEN, Message, check_turns, strip_thought
from megatron_redone.data.jinja_template import CHATML, compile_template
from megatron_redone.data.tokenizer import Tokenizer

MARKS = [chr(code) for code in range(0xFDD0, 0xFDF0)]
"""Unicode's 32 noncharacters for internal use: never in text that means something."""


@dataclass(frozen=True)
class EncodedConversation:
    """A training example.

    Attributes:
        token_ids: the whole conversation up to the end token of its last answer.
        loss_mask: one boolean for each token: whether it is to be learnt (answers and their end tokens).
    """

    token_ids: list[int]
    loss_mask: list[bool]


@dataclass(frozen=True)
class _Segment:
    text: str  # as rendered, with escape marks
    is_answer: bool


class ChatTemplate:
    """Turns conversations into ids.

    Args:
        tokenizer: gives ids, special tokens and, if `template` is None, its own template (else ChatML).
        template: a Jinja template in the form transformers uses.
        enable_thinking: handed to the template; None leaves it undefined: what the model's authors chose.

    Attributes:
        end_id: the special token the template puts after an answer.
        stop_ids: tokens that end generation: end_id, the tokenizer's eos_id, and `<|endoftext|>` if known.

    Raises:
        InputError: a template that is no Jinja, that ignores `enable_thinking` though it is set, or that
            does not close an answer with a special token.
    """

    def __init__(self, tokenizer: Tokenizer, template: str | None = None, enable_thinking: bool | None = None) -> None:
        self.tokenizer = tokenizer
        self.enable_thinking = enable_thinking
        self.template = template or tokenizer.chat_template or CHATML
        self._compiled = compile_template(self.template, enable_thinking)
        self._specials = _pattern(tokenizer.special_tokens)
        self._think_marks = _pattern(t for t in (THINK_OPEN, THINK_CLOSE) if t in tokenizer.special_tokens)
        self._unspellable = _pattern(t for t in tokenizer.special_tokens if t not in (THINK_OPEN, THINK_CLOSE))
        self._end_token = self._find_end_token()
        self.end_id = tokenizer.special_tokens[self._end_token]
        stops = [self.end_id, tokenizer.eos_id, tokenizer.special_id("<|endoftext|>")]
        self.stop_ids: tuple[int, ...] = tuple(dict.fromkeys(stop for stop in stops if stop is not None))

    def prompt_ids(self, messages: Sequence[Message]) -> list[int]:
        """The ids a model continues with its answer: the conversation and the template's generation prompt.

        Args:
            messages: ends with a user message.

        Raises:
            DataError: turns out of order, or a template that refuses the conversation.
        """
        check_turns(messages, last="user")
        marks = _free_marks(messages)
        return self._encode(self._segments(messages, marks, add_generation_prompt=True), marks[0]).token_ids

    def training_ids(self, messages: Sequence[Message]) -> EncodedConversation:
        """The ids of a conversation that ends with an answer, with what is to be learnt.

        The ids are exactly `prompt_ids(messages[:-1])`, the ids of the last answer and the end token. Every
        answer counts, with its end token and nothing else; earlier ones stand, and are learnt, without their
        thoughts. (To learn each answer with its thought, give each turn as a conversation of its own.)

        Raises:
            DataError: turns out of order, or a template whose own text of this conversation is another one
                than prompt and answer: then training would not match generation.
        """
        check_turns(messages, last="assistant")
        marks = _free_marks(messages)
        history, answer = messages[:-1], messages[-1]["content"]
        segments = self._segments(history, marks, add_generation_prompt=True)
        self._check_prefix(messages, "".join(segment.text for segment in segments), marks)
        encoded = self._encode(segments, marks[0])
        answer_ids = [*self.answer_ids(answer), self.end_id]
        return EncodedConversation(encoded.token_ids + answer_ids, encoded.loss_mask + [True] * len(answer_ids))

    def answer_ids(self, answer: str) -> list[int]:
        """The ids of an answer without the end token; `<think>` and `</think>` are tokens in it."""
        return self._ids_of(answer, self._think_marks)

    def templated_ids(self, text: str) -> list[int]:
        """The ids of a text that stands in the template already: what it spells of special tokens are tokens."""
        return self._ids_of(text, self._specials)

    @property
    def end_token(self) -> str:
        """The text of `end_id`."""
        return self._end_token

    def spelled_special(self, text: str) -> str | None:
        """The first special token that a text spells, `<think>` and `</think>` aside."""
        found = self._unspellable.search(text) if self._unspellable is not None else None
        return found[0] if found else None

    def render(self, messages: Sequence[Message], add_generation_prompt: bool = False) -> str:
        """The template's text of a conversation, earlier thoughts removed; for reading, not for encoding."""
        check_turns(messages)
        return self._render(_without_earlier_thoughts(messages), add_generation_prompt)

    def _render(self, messages: Sequence[Message], add_generation_prompt: bool) -> str:
        variables: dict[str, Any] = dict(self.tokenizer.template_variables)
        if self.enable_thinking is not None:
            variables["enable_thinking"] = self.enable_thinking
        plain = [dict(message) for message in messages]
        try:
            return self._compiled.render(messages=plain, add_generation_prompt=add_generation_prompt, **variables)
        except jinja2.TemplateError as error:
            raise DataError(
                f"the chat template refuses a conversation of {[m['role'] for m in messages]}: {error}; "
                "change the conversation or give another template"
            ) from error

    def _segments(
        self, messages: Sequence[Message], marks: tuple[str, str, str], add_generation_prompt: bool
    ) -> list[_Segment]:
        """The rendered text cut at the borders of answers, which marks around them show."""
        escape, start, end = marks
        prepared = self._escaped(_without_earlier_thoughts(messages), escape)
        text = self._render(prepared, add_generation_prompt)
        if all(message["role"] != "assistant" for message in messages):
            return [_Segment(text, is_answer=False)]
        for trim in (False, True):  # some templates strip the white space around an answer
            framed = [_framed(message, start, end, trim) for message in prepared]
            with_marks = self._render(framed, add_generation_prompt)
            if with_marks.replace(start, "").replace(end, "") == text:
                parts = re.split(f"[{start}{end}]", with_marks)
                return [_Segment(part, is_answer=index % 2 == 1) for index, part in enumerate(parts)]
        raise DataError(
            "the chat template changes answers of earlier turns, so they cannot be found in its text; "
            "give another template or train on single turns"
        )

    def _encode(self, segments: Sequence[_Segment], escape: str) -> EncodedConversation:
        token_ids: list[int] = []
        loss_mask: list[bool] = []
        after_answer = False
        for segment in segments:
            text = segment.text
            ids = self._ids_of(text, None if segment.is_answer else self._specials, escape)
            if after_answer and ids[:1] != [self.end_id]:
                raise DataError("the chat template does not close each answer in the same way; give another template")
            token_ids += ids
            loss_mask += [segment.is_answer or (after_answer and index == 0) for index in range(len(ids))]
            after_answer = segment.is_answer
        return EncodedConversation(token_ids, loss_mask)

    def _ids_of(self, text: str, specials: re.Pattern[str] | None, escape: str = "") -> list[int]:
        """Encodes text in which the tokens that `specials` matches are tokens and the rest is text."""
        if specials is None:
            return self.tokenizer.encode(text.replace(escape, "") if escape else text)
        ids: list[int] = []
        for index, part in enumerate(specials.split(text)):
            if index % 2:
                ids.append(self.tokenizer.special_tokens[part])
            elif part:
                ids += self.tokenizer.encode(part.replace(escape, "") if escape else part)
        return ids

    def _escaped(self, messages: Sequence[Message], escape: str) -> list[Message]:
        """Messages that spell no special token: marks separate the characters of those they spelled."""
        result = []
        for message in messages:
            content = message["content"]
            pattern = self._unspellable if message["role"] == "assistant" else self._specials
            while pattern is not None and pattern.search(content):
                content = pattern.sub(lambda match: escape.join(match[0]), content)
            result.append(Message(role=message["role"], content=content))
        return result

    def _check_prefix(self, messages: Sequence[Message], prompt: str, marks: tuple[str, str, str]) -> None:
        answer = messages[-1]["content"]
        if self.enable_thinking is False and (THINK_OPEN in answer or THINK_CLOSE in answer):
            raise DataError(
                "the answer holds a thought, but enable_thinking is false and the prompt already holds an "
                "empty one; remove <think>...</think> from the answer or set enable_thinking to true"
            )
        escaped = self._escaped(_without_earlier_thoughts(messages), marks[0])
        full = self._render(escaped, add_generation_prompt=False)
        body, _, tail = full.removeprefix(prompt).rpartition(self._end_token)
        same = _canonical(body) == _canonical(escaped[-1]["content"])
        if not full.startswith(prompt) or tail.strip() or not same:
            raise DataError(
                "the chat template does not write this conversation as its generation prompt followed by the "
                f"answer (it ends with {full[-200:]!r}, the prompt with {prompt[-80:]!r}), so training would "
                "not match generation; give another template, or an answer in the form it writes"
            )

    def _find_end_token(self) -> str:
        probe = [Message(role="user", content="question"), Message(role="assistant", content="answer")]
        marks = _free_marks(probe)
        after = self._segments(probe, marks, add_generation_prompt=False)[-1].text
        match = self._specials.match(after) if self._specials is not None else None
        if match is None:
            raise InputError(
                f"the chat template puts {after[:40]!r} after an answer, which does not start with a special "
                "token, so an answer would have no end; give a template made for this tokenizer"
            )
        return match[0]


def _pattern(tokens: Iterable[str]) -> re.Pattern[str] | None:
    """Matches any of the tokens, the longest first, as one group; None for no tokens."""
    ordered = sorted(tokens, key=lambda token: (-len(token), token))
    return re.compile("(" + "|".join(map(re.escape, ordered)) + ")") if ordered else None


def _free_marks(messages: Sequence[Message]) -> tuple[str, str, str]:
    """Three characters that stand in no message: the escape mark, and start and end of an answer."""
    used = {character for message in messages for character in message["content"] if "\ufdd0" <= character <= "\ufdef"}
    free = [mark for mark in MARKS if mark not in used]
    if len(free) < 3:
        raise DataError("a conversation uses 30 or more of Unicode's noncharacters U+FDD0..U+FDEF; remove them")
    return free[0], free[1], free[2]


def _framed(message: Message, start: str, end: str, trim: bool) -> Message:
    if message["role"] != "assistant":
        return message
    content = message["content"].strip() if trim else message["content"]
    return Message(role="assistant", content=start + content + end)


def _without_earlier_thoughts(messages: Sequence[Message]) -> list[Message]:
    """Every answer but one that ends the conversation, without its thought."""
    earlier = [
        Message(role=message["role"], content=strip_thought(message["content"]))
        if message["role"] == "assistant"
        else message
        for message in messages[:-1]
    ]
    return [*earlier, *messages[-1:]]


def _canonical(answer: str) -> str:
    """An answer without what templates may add or remove: white space at its borders and an empty thought."""
    tight = re.sub(r"\s*(</?think>)\s*", r"\1", answer.strip())
    return tight.removeprefix(THINK_OPEN + THINK_CLOSE)
