"""One type from prompt to update: a response with its reward, and the group of responses to a prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from megatron_redone.common.errors import RedoneError
from megatron_redone.data.chat_template import ChatTemplate
from megatron_redone.data.document import Document
from megatron_redone.generation.base import Completion, GenerationEngine, SamplingParams
from megatron_redone.rl.config import OverlongConfig
from megatron_redone.rl.reward import Rewards, overlong_penalty
from megatron_redone.tasks.base import Row


@dataclass
class Response:
    """One sampled answer to a prompt."""

    completion: Completion
    text: str
    score: float
    """Task score in 0..1; groups are filtered by it."""
    parsed: bool
    reward: float
    """Score minus the overlong penalty; advantages are made of it."""
    advantage: float = 0.0

    @property
    def truncated(self) -> bool:
        """Whether the limit cut it off."""
        return self.completion.finish_reason == "length"


@dataclass
class Group:
    """The responses to one prompt."""

    row: Row
    prompt_ids: Sequence[int]
    responses: list[Response] = field(default_factory=list)

    @property
    def informative(self) -> bool:
        """Whether the scores differ, so that there is something to learn (DAPO, equation 11; their deviation is above
        0, for continuous scores as well)."""
        return len({response.score for response in self.responses}) > 1

    def documents(self) -> list[Document]:
        """Prompt and response as one document each, with the response as what is learnt."""
        return [
            Document(
                token_ids=[*self.prompt_ids, *response.completion.token_ids],
                loss_mask=[0.0] * len(self.prompt_ids) + [1.0] * len(response.completion.token_ids),
                sample_id=self.row.id,
                signals={
                    "advantages": [response.advantage] * (len(self.prompt_ids) + len(response.completion.token_ids))
                },
            )
            for response in self.responses
        ]


def roll_out(
    rows: Sequence[Row],
    prompts: Sequence[Sequence[int]],
    generator: GenerationEngine,
    template: ChatTemplate,
    params: SamplingParams,
    overlong: OverlongConfig,
    keys: Sequence[str],
    rewards: Rewards,
    *,
    alone: bool = False,
) -> list[Group]:
    """Samples `params.num_samples` responses to each prompt and scores them by their tasks, all together.

    Args:
        keys: name each prompt for the random draws, so that a row drawn twice is not answered alike.
        alone: this rank samples and scores for itself, without the others.

    Raises:
        RedoneError: the generator gave fewer answers than were asked for, or one without a token.
    """
    completions = generator.generate(prompts, params, keys)
    check_completions(completions, rows, params)
    texts = [[template.tokenizer.decode(sample.token_ids) for sample in samples] for samples in completions]
    asked = [row for row in rows for _ in range(params.num_samples)]
    scores = iter(rewards.score([text for of_prompt in texts for text in of_prompt], asked, alone=alone))
    groups = [Group(row, prompt) for row, prompt in zip(rows, prompts, strict=True)]
    for group, samples, of_prompt in zip(groups, completions, texts, strict=True):
        for sample, text in zip(samples, of_prompt, strict=True):
            score = next(scores)
            penalty = overlong_penalty(len(sample.token_ids), params.max_new_tokens, overlong)
            group.responses.append(Response(sample, text, score.value, score.parsed, score.value + penalty))
    return groups


def check_completions(completions: Sequence[Sequence[Completion]], rows: Sequence[Row], params: SamplingParams) -> None:
    """What every engine owes: `num_samples` completions of each prompt, each of a token and a number for each token.

    Raises:
        RedoneError: it gave something else. An engine ends an answer with the stop token, so an answer without a token
            is none; training on the rest would change the group.
    """
    if len(completions) != len(rows):
        raise RedoneError(
            f"the generator gave answers to {len(completions)} of {len(rows)} prompts; look at its log, or take "
            "another engine (generation.engine)"
        )
    for row, samples in zip(rows, completions, strict=True):
        whole = [s for s in samples if s.token_ids and len(s.token_ids) == len(s.logprobs)]
        if len(whole) != params.num_samples:
            raise RedoneError(
                f"row {row.id!r}: the generator gave {len(whole)} answers with tokens and log-probabilities where "
                f"{params.num_samples} were asked for; look at its log, or take another engine (generation.engine)"
            )
