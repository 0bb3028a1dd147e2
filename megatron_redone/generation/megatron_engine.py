"""The in-process generator: batched, ragged prompts, a key-value cache, on the trained model itself.

It runs on every layout the engine trains on: logits are gathered over tensor-parallel ranks, hidden states are
handed down the pipeline, prompts are spread over data-parallel replicas.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist
from torch import Tensor

from megatron_redone.common.errors import InputError
from megatron_redone.generation.base import Completion, SamplingParams
from megatron_redone.generation.sampling import draw, sequence_keys, uniforms
from megatron_redone.models.build import ModelChunks
from megatron_redone.models.expert_choices import NotedChoices
from megatron_redone.models.kv_cache import KVCache
from megatron_redone.parallel.context import ParallelContext
from megatron_redone.parallel.gpu_config import fp8_multiple
from megatron_redone.parallel.vocab_logprobs import gather_vocabulary

SHARE_THAT_LEAVES = 0.25
"""Finished sequences leave the batch when they are at least this share of it."""


class MegatronGenerator:
    """Completions from the model that is being trained; it needs no weight transfer."""

    def __init__(self, model: ModelChunks, context: ParallelContext, max_sequences: int = 256) -> None:
        self.model, self.context, self.max_sequences = model, context, max_sequences
        self.version = 0

    def update_weights(self, stream: Iterable[tuple[str, Any]], version: int) -> None:
        """Notes the version: the weights are the engine's own, so the stream is left unread."""
        self.version = version

    def sleep(self) -> None:
        """Nothing to give back: the weights are the trainer's."""

    def wake_up(self) -> None:
        """Nothing to take back."""

    def close(self) -> None:
        """Nothing to free: the cache lives only inside `generate`."""

    @torch.no_grad()
    def generate(
        self, prompts: Sequence[Sequence[int]], params: SamplingParams, keys: Sequence[str]
    ) -> list[list[Completion]]:
        """`num_samples` completions of each prompt, in the order of the prompts, on every rank.

        Raises:
            InputError: choices of experts are asked for of a model without experts.
        """
        if params.record_experts and not self.model.shape.is_moe:
            raise InputError("record_experts with a model without experts: there is no choice to note; leave it out")
        self.model.train(False)
        order = sorted(range(len(prompts)), key=lambda i: (len(prompts[i]), i))
        axis = self.context.dp_cp  # context-parallel ranks hold the same weights: here they are replicas
        together = replicas_in_step(self.context)
        mine = order[axis.rank // together :: axis.size // together]
        at_once = max(1, self.max_sequences // params.num_samples)
        results: dict[int, list[Completion]] = {}
        for start in range(0, len(mine), at_once):
            chunk = mine[start : start + at_once]
            batch = _Batch(self, [prompts[i] for i in chunk], params, [keys[i] for i in chunk])
            completions = batch.run_noting_experts() if params.record_experts else batch.run()
            results.update(zip(chunk, completions, strict=True))
        for part in self.context.gather_objects(results, axis):
            results.update(part)
        return [results[i] for i in range(len(prompts))]

    def next_tokens(
        self,
        tokens_T: Tensor,
        positions_T: Tensor,
        cu_seqlens: Tensor,
        cache: KVCache,
        rows_T: Tensor,
        *,
        decode: bool,
        wanted_B: Tensor,
        uniform_B: Tensor,
        params: SamplingParams,
    ) -> tuple[Tensor, Tensor]:
        """Runs the stages over new tokens and draws the token after each of `wanted_B`; (tokens, log-probs) [B]."""
        logits = self.new_logits(tokens_T, positions_T, cu_seqlens, cache, rows_T, decode=decode, wanted_B=wanted_B)
        drawn = torch.zeros(2, uniform_B.numel(), dtype=torch.float64, device=self.context.device)
        if logits is not None:
            tokens, logprobs = draw(logits, uniform_B, params.temperature, params.top_p)
            drawn = torch.stack([tokens.double(), logprobs.double()])
        if self.context.pp.size > 1:
            last = dist.get_global_rank(self.context.pp.group, self.context.pp.size - 1)
            dist.broadcast(drawn, src=last, group=self.context.pp.group)
        return drawn[0].long(), drawn[1]

    def new_logits(
        self,
        tokens_T: Tensor,
        positions_T: Tensor,
        cu_seqlens: Tensor,
        cache: KVCache,
        rows_T: Tensor,
        *,
        decode: bool,
        wanted_B: Tensor,
    ) -> Tensor | None:
        """Runs the stages over new tokens; on the last one the logits [B, vocabulary] after each of `wanted_B`."""
        packed = self.model.packed(*self.padded(cu_seqlens, positions_T), split=False)
        packed.logit_positions_N, packed.cache, packed.decode = wanted_B, cache, decode
        packed.max_seqlen_kv = int(positions_T.max()) + 1
        padding = packed.positions_T.numel() - tokens_T.numel() if packed.positions_T is not None else 0
        if padding:
            # tokens that only fill the row up to a multiple of tp write to the cache's spare last place
            tokens_T = torch.cat([tokens_T, tokens_T.new_zeros(padding)])
            rows_T = torch.cat([rows_T, rows_T.new_zeros(padding)])
            packed.positions_T = torch.cat([positions_T, positions_T.new_full((padding,), cache.max_tokens - 1)])
        packed.cache_rows_T = rows_T
        output = self.through_stages(tokens_T, packed)
        return gather_vocabulary(output, self.context.tp.group) if self.context.is_last_stage else None

    def padded(self, cu_seqlens: Tensor, positions_T: Tensor) -> tuple[Tensor, Tensor]:
        """Borders and positions of a row that is as long as sequence parallelism and FP8 need."""
        sequence_ranks = self.context.tp.size if self.model.config.sequence_parallel else 1
        missing = -positions_T.numel() % (sequence_ranks * fp8_multiple(self.context.config.gpu))
        if not missing:
            return cu_seqlens, positions_T
        return (
            torch.cat([cu_seqlens, cu_seqlens[-1:] + missing]),
            torch.cat([positions_T, torch.arange(missing, device=positions_T.device)]),
        )

    def through_stages(self, tokens_T: Tensor, packed: Any) -> Tensor:
        """Every chunk in turn, from stage to stage; the output of this rank's last one."""
        pp, config = self.context.pp, self.model.config
        length = tokens_T.numel() // (self.context.tp.size if config.sequence_parallel else 1)
        output = torch.empty(0)
        for chunk in self.model:
            received = None
            if not chunk.pre_process:
                received = torch.empty(
                    length, 1, config.hidden_size, dtype=config.params_dtype, device=self.context.device
                )
                dist.recv(received, src=dist.get_global_rank(pp.group, (pp.rank - 1) % pp.size))
            chunk.set_input_tensor([received])
            output = chunk(tokens_T.unsqueeze(0), None, None, packed_seq_params=packed)
            if not chunk.post_process:
                dist.send(output.contiguous(), dst=dist.get_global_rank(pp.group, (pp.rank + 1) % pp.size))
        return output


def replicas_in_step(context: ParallelContext) -> int:
    """How many replicas in a row run every layer together and so take the same prompts: those that share experts.

    Tokens go to experts inside blocks of etp * ep ranks in a row, and a replica is tp ranks in a row (pipeline stages
    are farther apart), so the ranks that must make the same passes are the least common multiple of both.
    """
    return math.lcm(context.tp.size, context.etp.size * context.ep.size) // context.tp.size


class _Batch:
    """Sequences that are generated together."""

    def __init__(
        self,
        generator: MegatronGenerator,
        prompts: list[Sequence[int]],
        params: SamplingParams,
        keys: list[str],
    ) -> None:
        self.generator, self.prompts, self.params = generator, prompts, params
        self.device = generator.context.device
        self.keys_B = sequence_keys(params.seed, keys, params.num_samples).to(self.device)
        self.num_sequences = len(prompts) * params.num_samples
        self.tokens: list[list[int]] = [[] for _ in range(self.num_sequences)]
        self.logprobs: list[list[float]] = [[] for _ in range(self.num_sequences)]
        self.stopped = [False] * self.num_sequences
        self.stop_ids = set(params.stop_ids)
        self.notes: NotedChoices | None = None
        self.noted: list[tuple[list[int], dict[int, npt.NDArray[np.int16]]]] = []
        """Of each pass the sequence of each token (of the first one: the prompt), and this rank's choices."""
        self.experts: list[npt.NDArray[np.int16]] = []

    def run_noting_experts(self) -> list[list[Completion]]:
        """As `run`, with the experts of every token."""
        with NotedChoices(self.generator.model.modules()) as self.notes:
            return self.run()

    def run(self) -> list[list[Completion]]:
        """Prefill once per prompt, then one token a step for all unfinished sequences."""
        lengths = [len(prompt) for prompt in self.prompts]
        spare = 1  # one more place for rows that only pad
        cache = KVCache(len(self.prompts), max(lengths) + self.params.max_new_tokens + spare)
        tokens_B, logprobs_B = self._prefill(cache, lengths)
        cache.repeat_sequences(self.params.num_samples)
        samples = self.params.num_samples
        active = list(range(self.num_sequences))  # sequence of each row of the cache
        places = torch.tensor([length for length in lengths for _ in range(samples)], device=self.device)
        for step in range(1, self.params.max_new_tokens + 1):
            self._record(active, tokens_B.tolist(), logprobs_B.tolist())
            unfinished = [row for row, sequence in enumerate(active) if not self.stopped[sequence]]
            if not unfinished or step == self.params.max_new_tokens:
                break
            if len(active) - len(unfinished) >= SHARE_THAT_LEAVES * len(active):
                keep = torch.tensor(unfinished, device=self.device)
                cache.keep_sequences(keep)
                tokens_B, places = tokens_B[keep], places[keep]
                active = [active[row] for row in unfinished]
            tokens_B, logprobs_B = self._decode(cache, active, tokens_B, places, step)
            places = places + 1
        if self.notes is not None:
            self.experts = self._gather_experts()
        return [
            [self._completion(prompt * samples + sample) for sample in range(samples)]
            for prompt in range(len(self.prompts))
        ]

    def _gather_experts(self) -> list[npt.NDArray[np.int16]]:
        """Choices [tokens that were read, layers, k] of each sequence, from all tensor ranks and stages."""
        context, split = self.generator.context, self.generator.model.config.sequence_parallel
        own = [choices for _, choices in self.noted]
        parts = context.gather_objects(own, context.tp) if split else [own]
        of_stage = [
            {layer: np.concatenate([part[number][layer] for part in parts])[: len(tokens)] for layer in own[number]}
            for number, (tokens, _) in enumerate(self.noted)
        ]
        stages = context.gather_objects(of_stage, context.pp)
        found: list[list[npt.NDArray[np.int16]]] = [[] for _ in range(self.num_sequences)]
        for number, (sequences, _) in enumerate(self.noted):
            layers = {layer: choices for stage in stages for layer, choices in stage[number].items()}
            choices = np.stack([layers[layer] for layer in sorted(layers)], axis=1)
            rows = np.asarray(sequences)
            if number == 0:
                for sequence in range(self.num_sequences):
                    found[sequence].append(choices[rows == sequence // self.params.num_samples])
            else:
                for row, sequence in enumerate(sequences):
                    found[sequence].append(choices[row : row + 1])
        # A sequence that has stopped may be read on until it leaves the batch: what it was sent to then is cut off.
        return [
            np.concatenate(found[sequence])[: len(self.prompts[sequence // self.params.num_samples]) + len(tokens) - 1]
            for sequence, tokens in enumerate(self.tokens)
        ]

    def _note(self, sequences: list[int]) -> None:
        if self.notes is not None:
            self.noted.append((sequences, self.notes.take()))

    def _prefill(self, cache: KVCache, lengths: list[int]) -> tuple[Tensor, Tensor]:
        """Runs the prompts and draws the first token of every sample, with the prompt's logits shared."""
        samples = self.params.num_samples
        tokens = torch.tensor([token for prompt in self.prompts for token in prompt], device=self.device)
        positions = torch.cat([torch.arange(length) for length in lengths]).to(self.device)
        rows = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths)).to(self.device)
        borders = torch.tensor([0, *lengths]).cumsum(0).to(torch.int32).to(self.device)
        ends = borders[1:].repeat_interleave(samples)
        first = torch.zeros(self.num_sequences, dtype=torch.int64, device=self.device)
        drawn = self.generator.next_tokens(
            tokens,
            positions,
            borders,
            cache,
            rows,
            decode=False,
            uniform_B=uniforms(self.keys_B, first),
            params=self.params,
            wanted_B=ends.long() - 1,
        )
        self._note(rows.tolist())
        return drawn

    def _decode(
        self, cache: KVCache, active: list[int], tokens_B: Tensor, places: Tensor, step: int
    ) -> tuple[Tensor, Tensor]:
        rows = torch.arange(len(active), device=self.device)
        borders = torch.arange(len(active) + 1, dtype=torch.int32, device=self.device)
        keys = self.keys_B[torch.tensor(active, device=self.device)]
        drawn = self.generator.next_tokens(
            tokens_B,
            places,
            borders,
            cache,
            rows,
            decode=True,
            uniform_B=uniforms(keys, torch.full_like(keys, step)),
            params=self.params,
            wanted_B=rows,
        )
        self._note(list(active))
        return drawn

    def _record(self, active: list[int], tokens: list[int], logprobs: list[float]) -> None:
        for sequence, token, logprob in zip(active, tokens, logprobs, strict=True):
            if not self.stopped[sequence]:
                self.tokens[sequence].append(token)
                self.logprobs[sequence].append(logprob)
                self.stopped[sequence] = token in self.stop_ids

    def _completion(self, sequence: int) -> Completion:
        reason = "stop" if self.stopped[sequence] else "length"
        return Completion(
            tuple(self.tokens[sequence]),
            tuple(self.logprobs[sequence]),
            reason,  # type: ignore[arg-type]
            self.generator.version,
            self.experts[sequence] if self.experts else None,
        )
