"""Judges that run a model in this process: asked by prompt, or by how likely it finds an answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from megatron_redone.curation.pairs.config import JudgeConfig
from megatron_redone.data.chat_template import ChatTemplate
from megatron_redone.data.conversation import Message
from megatron_redone.data.document import Document
from megatron_redone.generation.base import GenerationEngine, SamplingParams
from megatron_redone.generation.config import GenerationConfig
from megatron_redone.generation.prompts import fit_prompt
from megatron_redone.scoring.completion_cache import content_hash
from megatron_redone.scoring.judge import Answered, CompleteAll, ScoreAll
from megatron_redone.scoring.judge_prompts import ChatMessage
from megatron_redone.training.batches import balanced_microbatches
from megatron_redone.training.engine import MegatronEngine


def generated_replies(
    generator: GenerationEngine, template: ChatTemplate, config: GenerationConfig, seed: int
) -> CompleteAll:
    """Replies of a generation engine; "" to a conversation over the limit. All ranks call it alike."""

    def complete_all(conversations: Sequence[Sequence[ChatMessage]]) -> list[str]:
        whole = [template.prompt_ids(cast(Sequence[Message], messages)) for messages in conversations]
        prompts = {i: fitted for i, prompt in enumerate(whole) if (fitted := fit_prompt(prompt, config)) is not None}
        keys = [content_hash([dict(message) for message in conversations[i]]) for i in prompts]
        params = SamplingParams.of(config, template.stop_ids, seed=seed)
        replies = [""] * len(conversations)
        if prompts:
            for index, samples in zip(prompts, generator.generate(list(prompts.values()), params, keys), strict=True):
                replies[index] = template.tokenizer.decode(samples[0].token_ids)
        return replies

    return complete_all


def likelihood_scores(engine: MegatronEngine, template: ChatTemplate, config: JudgeConfig) -> ScoreAll:
    """Mean log-probability of an answer's tokens, its end among them, given the prompt (nats a token).

    None for conversations over `max_tokens`. All ranks call it alike and get the same scores.
    """

    def score_all(answered: Sequence[Answered]) -> list[float | None]:
        documents, places = [], []
        for place, item in enumerate(answered):
            answer: Message = {"role": "assistant", "content": item.answer}
            encoded = template.training_ids([*cast(Sequence[Message], item.prompt), answer])
            num_answer = len(template.answer_ids(item.answer)) + 1
            mask = [0.0] * (len(encoded.token_ids) - num_answer) + [1.0] * num_answer
            if len(encoded.token_ids) <= config.max_tokens:
                documents.append(Document(encoded.token_ids, mask, item.id))
                places.append(place)
        scores: list[float | None] = [None] * len(answered)
        if not documents:
            return scores
        batches, members = balanced_microbatches(documents, config.max_tokens, engine)
        mine: dict[int, float] = {}
        for row, batch, indices in zip(engine.logprobs(batches), batches, members, strict=True):
            start = 0
            for index in indices:
                end = start + len(documents[index])
                weights = batch.loss_weights[start:end]
                mine[index] = float((row[start:end].double() * weights).sum() / weights.sum())
                start = end
        for part in engine.context.gather_objects(mine, engine.context.dp):
            mine.update(part)
        for index, place in enumerate(places):
            scores[place] = mine[index]
        return scores

    return score_all
