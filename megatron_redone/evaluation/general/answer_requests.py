"""Requests for answers: prompt, room, sampling and stop texts, as the harness states them, ready for an engine."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lm_eval.models.utils import handle_stop_sequences, normalize_gen_kwargs

from megatron_redone.common.errors import InputError
from megatron_redone.evaluation.general.stops import leaves_thought_open
from megatron_redone.generation.base import SamplingParams

if TYPE_CHECKING:
    from megatron_redone.evaluation.general.language_model import EngineLanguageModel

KNOWN_SETTINGS = {"do_sample", "max_gen_toks", "temperature", "top_p", "until"}


@dataclass(frozen=True)
class AnswerRequest:
    """A prompt with its settings, ready for the engine."""

    prompt: tuple[int, ...]
    params: SamplingParams
    until: tuple[str, ...]
    is_cut: bool
    thought_open: bool
    has_stop_texts: bool

    @classmethod
    def of(cls, model: EngineLanguageModel, context: str, given: Mapping[str, Any]) -> AnswerRequest:
        """From the arguments of a harness request.

        Raises:
            InputError: settings that the engine does not have, or room for no prompt.
        """
        settings = model.settings
        if unknown := sorted(set(given) - KNOWN_SETTINGS):
            raise InputError(f"generation setting {unknown[0]!r} is unknown here; known: {sorted(KNOWN_SETTINGS)}")
        kwargs = normalize_gen_kwargs(dict(given), settings.max_gen_tokens)
        asked = list(given.get("until") or []) if not isinstance(given.get("until"), str) else [given["until"]]
        room = settings.room or int(kwargs["max_gen_toks"])
        longest = model.max_length - room
        if longest < 1:
            raise InputError(
                f"answers of {room} tokens leave no room for a prompt in the {model.max_length} that the model holds; "
                "give fewer with --max-new-tokens"
            )
        temperature = float(kwargs.get("temperature", 0.0)) if settings.temperature is None else settings.temperature
        top_p = float(kwargs.get("top_p", 1.0)) if settings.top_p is None else settings.top_p
        ids = model.tok_encode(context) or [model.prefix_token_id]
        return cls(
            prompt=tuple(ids[-longest:]),
            params=SamplingParams(room, temperature, top_p, stop_ids=model.stop_ids, seed=settings.seed),
            until=tuple(handle_stop_sequences(list(asked), eos=model.spelled(model.eot_token_id))),
            is_cut=len(ids) > longest,
            thought_open=settings.remove_thoughts and leaves_thought_open(context),
            has_stop_texts=any(asked),
        )

    @property
    def settings(self) -> str:
        """Requests with equal ones are answered together."""
        drawn = [self.params.max_new_tokens, self.params.temperature, self.params.top_p, self.params.seed]
        return json.dumps([*drawn, list(self.params.stop_ids), list(self.until)])

    def name(self) -> str:
        """All that the response depends on beside the model."""
        content = json.dumps([self.settings, list(self.prompt), self.thought_open])
        return hashlib.sha256(content.encode()).hexdigest()


def batches_of(requests: Mapping[str, AnswerRequest], size: int) -> list[list[str]]:
    """Keys in batches of equal settings, the longest prompts first."""
    by_settings: dict[str, list[str]] = {}
    for key in sorted(requests, key=lambda key: -len(requests[key].prompt)):
        by_settings.setdefault(requests[key].settings, []).append(key)
    return [keys[start : start + size] for keys in by_settings.values() for start in range(0, len(keys), size)]
