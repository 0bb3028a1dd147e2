"""From groups of answers to documents with every signal that the loss reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain

from megatron_redone.data.document import Document
from megatron_redone.rl.agreement import logprob_gap
from megatron_redone.rl.config import DAPOConfig
from megatron_redone.rl.rollout import Group
from megatron_redone.rl.router_replay import replay_signals
from megatron_redone.training.document_logprobs import document_logprobs
from megatron_redone.training.engine import MegatronEngine
from megatron_redone.training.run import TrainingRun


def training_documents(
    groups: Sequence[Group],
    engine: MegatronEngine,
    config: DAPOConfig,
    run: TrainingRun,
    reference: MegatronEngine | None = None,
) -> tuple[list[list[Document]], dict[str, float]]:
    """The documents of each group with `config.signals`, and the gap between generator and trainer.

    Old log-probabilities are the trainer's own, not the rollout's: the ratio then starts at exactly 1 whatever engine
    sampled. With one update a rollout it never leaves 1, and they are computed only to be compared. A rollout of older
    weights keeps the log-probabilities that it reported: they are those of the policy that made it, which the trainer
    no longer has. With `router_replay` the documents carry the choices of experts as well.

    Args:
        reference: the frozen model for `reference_logprobs`.
    """
    documents = [document for group in groups for document in group.documents()]
    responses = [response for group in groups for response in group.responses]
    num_prompt = [len(group.prompt_ids) for group in groups for _ in group.responses]
    signals = {"advantages": [document.signals["advantages"] for document in documents]}
    sampled = [response.completion.logprobs for response in responses]
    signals["rollout_logprobs"] = [
        [0.0] * start + list(values) for start, values in zip(num_prompt, sampled, strict=True)
    ]
    replayed: list[dict[str, list[int]]] = [{} for _ in documents]
    if config.router_replay:
        asked = zip(responses, num_prompt, strict=True)
        replayed = [replay_signals(response.completion, start) for response, start in asked]
    gap: dict[str, float] = {}
    if config.rollout.staleness:
        signals["old_logprobs"] = signals["rollout_logprobs"]
    elif config.agreement.measure or "old_logprobs" in config.signals:
        routed = [replace(document, signals=choices) for document, choices in zip(documents, replayed, strict=True)]
        if config.router_replay:
            engine.take_choices_changed()  # those of the last updates
        old = _logprobs(routed, engine, config, run)
        signals["old_logprobs"] = old
        gap = _gap(old, num_prompt, sampled)
        if config.router_replay:
            gap["router_choices_changed"] = engine.take_choices_changed()
        if config.agreement.without_replay:
            plain = _gap(_logprobs(documents, engine, config, run), num_prompt, sampled)
            gap |= {f"{name}_without_replay": value for name, value in plain.items()}
    if reference is not None:
        signals["reference_logprobs"] = _logprobs(documents, reference, config, run)
    kept = [not (config.overlong.filter and response.truncated) for response in responses]
    signals["group_shares"] = _group_shares(groups, kept)
    filled = [
        replace(document, signals={**{name: signals[name][place] for name in config.signals}, **replayed[place]})
        for place, document in enumerate(documents)
    ]
    found, start = [], 0
    for group in groups:
        end = start + len(group.responses)
        found.append([filled[place] for place in range(start, end) if kept[place]])
        start = end
    return found, gap


def _gap(
    trained: Sequence[Sequence[float]], num_prompt: Sequence[int], sampled: Sequence[Sequence[float]]
) -> dict[str, float]:
    answers = [values[start:] for start, values in zip(num_prompt, trained, strict=True)]
    return logprob_gap(list(chain.from_iterable(answers)), list(chain.from_iterable(sampled)))


def _logprobs(
    documents: Sequence[Document], engine: MegatronEngine, config: DAPOConfig, run: TrainingRun
) -> list[Sequence[float]]:
    run.forward_tokens += sum(len(document) for document in documents)
    temperature = config.generation.temperature or 1.0
    limit, shared = config.max_tokens_per_microbatch, config.share_prompts
    return list(document_logprobs(documents, limit, engine, temperature, shared))


def _group_shares(groups: Sequence[Group], kept: Sequence[bool]) -> list[Sequence[float]]:
    """1 / (tokens of the group's responses that stay), repeated over each document."""
    found: list[Sequence[float]] = []
    stays = iter(kept)
    for group in groups:
        lengths = [len(response.completion.token_ids) for response in group.responses]
        tokens = sum(length for length in lengths if next(stays))
        found += [[1.0 / max(tokens, 1)] * (len(group.prompt_ids) + length) for length in lengths]
    return found
