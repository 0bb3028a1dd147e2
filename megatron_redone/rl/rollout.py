"""One type from prompt to update: a response with its reward, and the group of responses to a prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from megatron_redone.data.chat_template import ChatTemplate
from megatron_redone.data.document import Document
from megatron_redone.generation.base import Completion, GenerationEngine, SamplingParams
from megatron_redone.rl.config import OverlongConfig
from megatron_redone.rl.reward import overlong_penalty, task_scores
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
) -> list[Group]:
    """Samples `params.num_samples` responses to each prompt and scores them by their tasks.

    Args:
        keys: name each prompt for the random draws, so that a row drawn twice is not answered alike.
    """
    completions = generator.generate(prompts, params, keys)
    groups = [Group(row, prompt) for row, prompt in zip(rows, prompts, strict=True)]
    for group, samples in zip(groups, completions, strict=True):
        texts = [template.tokenizer.decode(sample.token_ids) for sample in samples]
        scores = task_scores(group.row, texts)
        for sample, text, score in zip(samples, texts, scores, strict=True):
            penalty = overlong_penalty(len(sample.token_ids), params.max_new_tokens, overlong)
            group.responses.append(Response(sample, text, score.value, score.parsed, score.value + penalty))
    return groups
