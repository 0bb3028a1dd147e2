"""lm-evaluation-harness on our engines: log-likelihoods, rolling log-likelihoods, generation.

Follows `lm_eval.models.huggingface.HFLM` wherever a number depends on it: left truncation, the empty context, stop
texts, windows of a rolling log-likelihood. It departs from it in three things, all about special tokens:

- A chat prompt is encoded by `ChatTemplate`, as in training: text of a benchmark that spells a special token stays
  text, and the answer starts a token of its own. HFLM encodes the rendered text.
- A thought is removed before stop texts are looked for, and an answer whose thought never closes is empty. HFLM
  stops inside thoughts, and keeps open ones.
- Where the continuation melts into the last token of the context and nothing is left of it, both are encoded apart.
  HFLM fails.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.api.model import TemplateLM
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from megatron_redone.common.errors import DataError, InputError
from megatron_redone.common.logging import Progress
from megatron_redone.data.chat_template import ChatTemplate
from megatron_redone.data.conversation import Message, parse_messages
from megatron_redone.data.tokenizer import Tokenizer
from megatron_redone.evaluation.general.answer_requests import AnswerRequest, batches_of
from megatron_redone.evaluation.general.response_cache import ResponseCache
from megatron_redone.evaluation.general.stops import (
    Answer,
    after_thought,
    cut_at,
    generate_until,
)
from megatron_redone.generation.base import GenerationEngine
from megatron_redone.generation.token_scores import Continuation, TokenScorer

SCORED_AT_ONCE = 16
"""Batches of continuations between two writes of the cache."""


@dataclass(frozen=True)
class LanguageModelSettings:
    """How requests are answered.

    Attributes:
        max_length: tokens that the model holds; longer inputs lose their first ones.
        batch_size: prompts between two writes of the cache.
        max_gen_tokens: room for an answer where a task names none (HFLM's default).
        room: room for every answer instead of what its task names; None leaves it to the tasks.
        temperature, top_p: instead of what a task names; None leaves it to the tasks.
        remove_thoughts: whether what stands before `</think>` is taken off an answer.
        seed: of sampled answers.
    """

    max_length: int
    batch_size: int = 32
    max_gen_tokens: int = 256
    room: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    remove_thoughts: bool = True
    seed: int = 0


class EngineLanguageModel(TemplateLM):
    """A model of ours as lm-evaluation-harness sees it.

    Args:
        engine: makes answers.
        scorer: scores continuations; None where the engine cannot: then tasks with log-likelihoods are refused.
        template: renders chats; None for a model without one.
        cache: holds responses of an earlier run.

    Attributes:
        counts: prompts that were cut, answers out of room, thoughts removed or left open, by name.
    """

    def __init__(
        self,
        engine: GenerationEngine,
        scorer: TokenScorer | None,
        tokenizer: Tokenizer,
        template: ChatTemplate | None,
        settings: LanguageModelSettings,
        cache: ResponseCache | None = None,
    ) -> None:
        super().__init__()
        self.engine, self.scorer, self.template, self.settings = engine, scorer, template, settings
        self.tokenizer = tokenizer
        self.cache = cache or ResponseCache(None, "")
        self.counts: Counter[str] = Counter()
        self.stop_ids = tuple(dict.fromkeys([*(template.stop_ids if template else ()), tokenizer.eos_id]))
        self._text_prefix = list(getattr(tokenizer, "text_prefix_ids", ()))
        self._chats: dict[str, list[int]] = {}
        self._text_of_special = {number: token for token, number in tokenizer.special_tokens.items()}

    @property
    def max_length(self) -> int:
        """Tokens that the model holds."""
        return self.settings.max_length

    @property
    def eot_token_id(self) -> int:
        """Ends a text."""
        return self.tokenizer.eos_id

    @property
    def prefix_token_id(self) -> int:
        """Stands before a text without context: the begin token, or the end token where there is none."""
        begin = self.tokenizer.special_id(self.tokenizer.template_variables.get("bos_token", ""))
        return self.tokenizer.eos_id if begin is None else begin

    @property
    def tokenizer_name(self) -> str:
        """Names tokenizer and template; lm-eval asks for it where chats are rendered."""
        return self.tokenizer.fingerprint

    def chat_template(self, chat_template: bool | str = False) -> str | None:
        """The Jinja text; None where chats are not asked for."""
        return self.template.template if self.template is not None and chat_template else None

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """The text of a chat, for people; the ids of the same chat are remembered and used in its place.

        Args:
            chat_history: ends with a user message; without `add_generation_prompt` with the beginning of an answer.

        Raises:
            InputError: the model has no template. DataError: messages out of order.
        """
        if self.template is None:
            raise InputError("the model has no chat template, so it is asked without one: leave out --chat-template")
        messages = parse_messages(chat_history, "chat")
        begun: Message | None = None
        if not add_generation_prompt:
            begun, messages = messages[-1], messages[:-1]
        text = self.template.render(messages, add_generation_prompt=True)
        ids = self.template.prompt_ids(messages)
        if begun is not None:
            text, ids = text + begun["content"], ids + self.template.answer_ids(begun["content"])
        self._chats[text] = ids
        return text

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **kwargs: Any) -> list[int]:
        """The ids of a chat that was rendered here, else of a text, after what the model's authors put before one."""
        if string in self._chats:
            return list(self._chats[string])
        ids = self.tokenizer.encode(string)
        return ids if add_special_tokens is False else [*self._text_prefix, *ids]

    def _encode_pair(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        if context in self._chats:
            ids = self._chats[context]
            blank = self._trailing_blanks(ids, context[len(context.rstrip()) :])
            return ids[: len(ids) - blank], ids[len(ids) - blank :] + self.tokenizer.encode(continuation)
        before, after = super()._encode_pair(context, continuation)
        return (before, after) if after else (before, self.tokenizer.encode(continuation))

    def _trailing_blanks(self, ids: Sequence[int], blanks: str) -> int:
        """How many tokens at the end make up the white space there: as in HFLM they count with the continuation."""
        counts = range(1, min(len(blanks), len(ids) - 1) + 1)
        return next((count for count in counts if self.tokenizer.decode(ids[-count:]) == blanks), 0)

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """(log-probability of the continuation, whether greedy decoding gives it) of each (context, continuation).

        Raises:
            DataError: a continuation without text, or one longer than the model holds.
        """
        for number, request in enumerate(requests):
            if not request.args[1]:
                raise DataError(f"request {number}: an empty continuation has no likelihood; mend the task")
        found: list[tuple[float, bool]] = super().loglikelihood(requests, disable_tqdm=True)
        return found

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> list[float]:
        """Log-probability of each whole text, in windows of what the model holds."""
        windows: list[tuple[None, list[int], list[int]]] = []
        counts = []
        for request in requests:
            pieces = get_rolling_token_windows(
                self.tok_encode(request.args[0]), self.prefix_token_id, self.max_length, context_len=1
            )
            of_text = [(None, *make_disjoint_window(piece)) for piece in pieces]
            windows += of_text
            counts.append(len(of_text))
        scores = iter(self._loglikelihood_tokens(windows))
        return [sum(next(scores)[0] for _ in range(count)) for count in counts]

    def _loglikelihood_tokens(
        self, requests: Sequence[tuple[Any, list[int], list[int]]], **kwargs: Any
    ) -> list[tuple[float, bool]]:
        if self.scorer is None:
            raise InputError("this engine gives no log-likelihoods of texts; use --engine megatron for such tasks")
        asked = [self._fitted(context, tokens) for _, context, tokens in requests]
        keys = [self.cache.key("loglikelihood", *map(list, (c.context, c.tokens))) for c in asked]
        missing = {key: c for key, c in zip(keys, asked, strict=True) if key not in self.cache}
        # equal inputs side by side, so that they share a pass
        order = sorted(missing, key=lambda key: (-len(missing[key].input_ids), missing[key].input_ids))
        size = SCORED_AT_ONCE * self.settings.batch_size
        with Progress("log-likelihoods", len(asked), "continuations") as progress:
            progress.start_at(len(asked) - len(order))
            for start in range(0, len(order), size):
                part = order[start : start + size]
                scores = self.scorer.score([missing[key] for key in part])
                self.cache.add(
                    {key: [sum(s.logprobs), s.is_greedy] for key, s in zip(part, scores, strict=True)}
                )  # fmt: skip
                progress.advance(len(part))
        return [(float(self.cache[key][0]), bool(self.cache[key][1])) for key in keys]

    def _fitted(self, context: Sequence[int], tokens: Sequence[int]) -> Continuation:
        """As HFLM cuts it: the last `max_length` tokens are read, and the last one of all is only predicted."""
        if len(tokens) > self.max_length:
            raise DataError(
                f"a continuation of {len(tokens)} tokens, and the model holds {self.max_length}; leave the task out"
            )
        room = self.max_length + 1 - len(tokens)
        self.counts["prompts_cut"] += len(context) > room
        return Continuation(tuple(context[-room:]), tuple(tokens))

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """The answer to each (context, settings), cut before its first stop text.

        Raises:
            InputError: settings that the engine does not have, or room for no prompt.
        """
        prepared = [AnswerRequest.of(self, *request.args) for request in requests]
        seen: Counter[str] = Counter()
        keys = []
        for request in prepared:
            name = request.name()
            keys.append(self.cache.key("generate_until", name, seen[name] if request.params.temperature else 0))
            seen[name] += 1
        missing = {key: request for key, request in zip(keys, prepared, strict=True) if key not in self.cache}
        with Progress("answers", len(prepared), "requests") as progress:
            progress.start_at(len(prepared) - len(missing))
            for part in batches_of(missing, self.settings.batch_size):
                self.cache.add(self._answer({key: missing[key] for key in part}))
                progress.advance(len(part))
        for key in keys:
            self.counts.update(self.cache[key]["flags"])
        return [str(self.cache[key]["text"]) for key in keys]

    def _answer(self, requests: Mapping[str, AnswerRequest]) -> dict[str, dict[str, Any]]:
        """By key the response to requests of equal settings."""
        asked = list(requests.values())
        params, until = asked[0].params, asked[0].until
        is_over = partial(self._is_over, asked) if asked[0].has_stop_texts else None
        answers = generate_until(self.engine, [r.prompt for r in asked], list(requests), params, is_over)
        return {
            key: self._response(request, answer, until)
            for (key, request), answer in zip(requests.items(), answers, strict=True)
        }

    def _is_over(self, asked: Sequence[AnswerRequest], number: int, ids: Sequence[int]) -> bool:
        text = self._without_thought(asked[number], self.tokenizer.decode(ids))
        return text is not None and any(stop and stop in text for stop in asked[number].until)

    def _without_thought(self, request: AnswerRequest, text: str) -> str | None:
        return after_thought(text, request.thought_open) if self.settings.remove_thoughts else text

    def _response(self, request: AnswerRequest, answer: Answer, until: Sequence[str]) -> dict[str, Any]:
        whole = self.tokenizer.decode(answer.ids)
        text = self._without_thought(request, whole)
        flags = {
            "prompts_cut": request.is_cut,
            "answers_out_of_room": not answer.ended,
            "thoughts_removed": text is not None and text != whole,
            "thoughts_left_open": text is None,
        }
        response: dict[str, Any] = {
            "text": cut_at(text or "", until),
            "flags": [n for n, set_ in flags.items() if set_],
        }
        return response | ({"whole_output": whole} if text != whole else {})

    def spelled(self, token_id: int) -> str:
        """The text of a special token."""
        return self._text_of_special.get(token_id, "")
