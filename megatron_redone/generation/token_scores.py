"""Log-probabilities of given continuations: the seam of likelihood benchmarks, and the in-process model behind it.

Shape legend: T tokens of a packed row, N scored tokens, v = vocabulary / tp the slice of this rank.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.distributed as dist
from torch import Tensor

from megatron_redone.generation.megatron_engine import MegatronGenerator
from megatron_redone.parallel.vocab_logprobs import vocab_parallel_logprobs


@dataclass(frozen=True)
class Continuation:
    """Tokens to be scored after a context; neither is empty."""

    context: Sequence[int]
    tokens: Sequence[int]

    @property
    def input_ids(self) -> tuple[int, ...]:
        """What the model reads: all but the last token, which only has to be predicted."""
        return (*self.context, *self.tokens[:-1])


@dataclass(frozen=True)
class ContinuationScore:
    """How likely a continuation is."""

    logprobs: tuple[float, ...]
    """Of each token, natural logarithm, temperature 1."""
    is_greedy: bool
    """Whether every token is the most likely one at its place (the first of equals)."""


class TokenScorer(Protocol):
    """Scores continuations. Every rank of a parallel job calls it alike and gets the same results."""

    def score(self, continuations: Sequence[Continuation]) -> list[ContinuationScore]:
        """One score each, in order."""
        ...


class MegatronTokenScorer:
    """Packed forward passes of the in-process model, on every layout that it generates on.

    Continuations with the same input (one-token choices after one context) share a pass.

    Args:
        generator: whose model is asked.
        max_tokens: tokens in one pass; a longer sequence gets a pass of its own.
        max_scored: scored tokens in one pass, whose logits are in memory together; likewise.
    """

    def __init__(self, generator: MegatronGenerator, max_tokens: int = 8192, max_scored: int = 2048) -> None:
        self.generator, self.max_tokens, self.max_scored = generator, max_tokens, max_scored

    @torch.no_grad()
    def score(self, continuations: Sequence[Continuation]) -> list[ContinuationScore]:
        """One score each, in order, on every rank."""
        context = self.generator.context
        self.generator.model.train(False)
        members: dict[tuple[int, ...], list[int]] = {}
        for index, continuation in enumerate(continuations):
            members.setdefault(continuation.input_ids, []).append(index)
        inputs = sorted(members, key=lambda ids: (-len(ids), ids))
        axis = context.dp_cp  # as in generation: replicas share the work, unless experts are spread over them
        replicas = axis.size if context.ep.size == 1 else 1
        results: dict[int, ContinuationScore] = {}
        for part in self._passes(inputs[axis.rank % replicas :: replicas], members, continuations):
            asked = [[(index, continuations[index].tokens) for index in members[ids]] for ids in part]
            results.update(self._score_pass(part, asked))
        for part_results in context.gather_objects(results, axis):
            results.update(part_results)
        return [results[index] for index in range(len(continuations))]

    def _passes(
        self,
        inputs: Sequence[tuple[int, ...]],
        members: dict[tuple[int, ...], list[int]],
        continuations: Sequence[Continuation],
    ) -> list[list[tuple[int, ...]]]:
        """The inputs in order, as many in a pass as the two limits allow."""
        passes: list[list[tuple[int, ...]]] = []
        tokens = scored = 0
        for ids in inputs:
            labels = sum(len(continuations[index].tokens) for index in members[ids])
            if not passes or tokens + len(ids) > self.max_tokens or scored + labels > self.max_scored:
                passes.append([])
                tokens = scored = 0
            passes[-1].append(ids)
            tokens, scored = tokens + len(ids), scored + labels
        return passes

    def _score_pass(
        self, inputs: Sequence[tuple[int, ...]], asked: Sequence[Sequence[tuple[int, Sequence[int]]]]
    ) -> dict[int, ContinuationScore]:
        """By number of the continuation its score; `asked` lists (number, tokens) of each input."""
        wanted: list[int] = []
        labels: list[int] = []
        end = 0
        for ids, of_input in zip(inputs, asked, strict=True):
            end += len(ids)
            for _, tokens in of_input:
                wanted += range(end - len(tokens), end)
                labels += tokens
        logprobs, is_best = self._label_scores(inputs, wanted, labels)
        results: dict[int, ContinuationScore] = {}
        start = 0
        for of_input in asked:
            for number, tokens in of_input:
                part = slice(start, start + len(tokens))
                results[number] = ContinuationScore(tuple(logprobs[part]), all(is_best[part]))
                start += len(tokens)
        return results

    def _label_scores(
        self, inputs: Sequence[tuple[int, ...]], wanted: list[int], labels: list[int]
    ) -> tuple[list[float], list[bool]]:
        """Log-probability of each label at its place in the row, and whether it is the most likely token there."""
        generator, context = self.generator, self.generator.context
        device = context.device
        lengths = [len(ids) for ids in inputs]
        borders = torch.tensor([0, *lengths]).cumsum(0).to(torch.int32).to(device)
        positions_T = torch.cat([torch.arange(length) for length in lengths]).to(device)
        packed = generator.model.packed(*generator.padded(borders, positions_T), split=False)
        packed.logit_positions_N = torch.tensor(wanted, device=device)
        tokens_T = torch.tensor([token for ids in inputs for token in ids], device=device)
        padding = packed.positions_T.numel() - tokens_T.numel() if packed.positions_T is not None else 0
        output = generator.through_stages(torch.cat([tokens_T, tokens_T.new_zeros(padding)]), packed)
        found_2N = torch.zeros(2, len(labels), dtype=torch.float64, device=device)
        if context.is_last_stage:
            labels_N = torch.tensor(labels, device=device)
            best_N = most_likely(output, context.tp.group)
            found_2N[0] = vocab_parallel_logprobs(output, labels_N, context.tp.group).double()
            found_2N[1] = (best_N == labels_N).double()
        if context.pp.size > 1:
            last = dist.get_global_rank(context.pp.group, context.pp.size - 1)
            dist.broadcast(found_2N, src=last, group=context.pp.group)
        return found_2N[0].tolist(), [value > 0 for value in found_2N[1].tolist()]


def most_likely(logits_Nv: Tensor, group: dist.ProcessGroup | None) -> Tensor:
    """The token [N] with the largest logit of the whole vocabulary, the first of equals."""
    if group is None or dist.get_world_size(group) == 1:
        return logits_Nv.argmax(-1)
    largest_N = logits_Nv.amax(-1)
    token_N = logits_Nv.argmax(-1) + dist.get_rank(group) * logits_Nv.size(-1)
    of_all_N = largest_N.clone()
    dist.all_reduce(of_all_N, op=dist.ReduceOp.MAX, group=group)
    token_N = torch.where(largest_N == of_all_N, token_N, torch.full_like(token_N, torch.iinfo(torch.int64).max))
    dist.all_reduce(token_N, op=dist.ReduceOp.MIN, group=group)
    return token_N
