"""Generation until a text occurs, on engines that stop at tokens alone; and the thought before an answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from megatron_redone.data.conversation import THINK_CLOSE, THINK_OPEN
from megatron_redone.generation.base import GenerationEngine, SamplingParams

FIRST_ROUND_TOKENS = 64


@dataclass
class Answer:
    """What a model said to one prompt.

    Attributes:
        ids: without the stop token.
        ended: whether the model ended it, or a stop text occurs in it; else it ran out of room.
    """

    ids: list[int] = field(default_factory=list)
    ended: bool = False


def generate_until(
    engine: GenerationEngine,
    prompts: Sequence[Sequence[int]],
    keys: Sequence[str],
    params: SamplingParams,
    is_over: Callable[[int, Sequence[int]], bool] | None,
) -> list[Answer]:
    """One answer each, in order, of at most `params.max_new_tokens`.

    Engines know no stop texts. So answers are made in rounds of 64, 128, 256, ... tokens, and those that are over leave
    after each; a round reads prompt and answer so far anew, which for greedy decoding gives the answer of one round. A
    later round of a sampled answer draws by a key of its own.

    Args:
        is_over: (number of the prompt, tokens so far) -> a stop text occurs; None: nothing but a stop token ends it.
    """
    answers = [Answer() for _ in prompts]
    open_ones, done = list(range(len(prompts))), 0
    while open_ones and done < params.max_new_tokens:
        room = params.max_new_tokens - done
        this_round = replace(params, max_new_tokens=room if is_over is None else min(room, done or FIRST_ROUND_TOKENS))
        asked = [[*prompts[number], *answers[number].ids] for number in open_ones]
        names = [keys[number] if not done else f"{keys[number]} after {done}" for number in open_ones]
        for number, samples in zip(open_ones, engine.generate(asked, this_round, names), strict=True):
            answer, completion = answers[number], samples[0]
            stopped = bool(completion.token_ids) and completion.token_ids[-1] in params.stop_ids
            answer.ids += completion.token_ids[: -1 if stopped else None]
            answer.ended = stopped or (is_over is not None and is_over(number, answer.ids))
        open_ones = [number for number in open_ones if not answers[number].ended]
        done += this_round.max_new_tokens
    return answers


def leaves_thought_open(text: str) -> bool:
    """Whether a thought is open at the end of the text."""
    return THINK_OPEN in text.rpartition(THINK_CLOSE)[2]


def after_thought(text: str, opened: bool) -> str | None:
    """The text after its last thought; None while a thought is open; without a thought the text as it is.

    Args:
        opened: whether the prompt has opened the thought.
    """
    _, mark, rest = text.rpartition(THINK_CLOSE)
    if THINK_OPEN in rest or (opened and not mark):
        return None
    return rest.lstrip() if mark else text


def cut_at(text: str, until: Sequence[str]) -> str:
    """The text before the first stop text in it."""
    for stop in until:
        if stop:
            text = text.split(stop)[0]
    return text
