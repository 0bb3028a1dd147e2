"""The training engine: Megatron's DDP, optimizer and pipeline schedules under one `train_step`.

The engine alone knows vocab-parallel softmax, pipeline schedules and gradient reduction. Objectives give sums over
labelled tokens; the engine divides each term once by its units in the global batch (all micro-batches, all
data-parallel replicas) before the backward pass, and Megatron only sums.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist
from megatron.core.distributed import (
    DistributedDataParallel,
    DistributedDataParallelConfig,
    finalize_model_grads,
)
from megatron.core.optimizer import OptimizerConfig as MegatronOptimizerConfig, get_megatron_optimizer
from megatron.core.pipeline_parallel import get_forward_backward_func
from torch import Tensor

from megatron_redone.data.batch import PackedBatch
from megatron_redone.models.build import CausalLM, build_model
from megatron_redone.models.config import ModelShape
from megatron_redone.models.weights import export_weights, load_weights
from megatron_redone.objectives.base import LabelledTokens, LossTerms, Objective
from megatron_redone.parallel.context import ParallelContext
from megatron_redone.parallel.vocab_logprobs import vocab_parallel_entropy, vocab_parallel_logprobs
from megatron_redone.training.config import OptimizerConfig


class MegatronEngine:
    """A model, and its optimizer if it is trained, on one parallel layout."""

    def __init__(self, shape: ModelShape, context: ParallelContext, optimizer: OptimizerConfig | None = None) -> None:
        self.shape, self.context = shape, context
        self.model: CausalLM = build_model(shape, context)
        self.ddp: DistributedDataParallel | None = None
        self.optimizer: Any = None
        self._optimizer_config = optimizer

    def load_hf_weights(self, tensors: Mapping[str, Tensor], source: str) -> None:
        """Fills the model from whole Hugging Face tensors; the optimizer, if any, starts afresh from them."""
        load_weights(self.model, self.context, tensors, source)
        if self._optimizer_config is not None:
            self._start_optimizer(self._optimizer_config)

    def export_hf_weights(self) -> Iterator[tuple[str, Tensor]]:
        """Streams (name, whole tensor); a collective that every rank iterates to the end."""
        return export_weights(self.model, self.context)

    def _start_optimizer(self, config: OptimizerConfig) -> None:
        ddp_config = DistributedDataParallelConfig(grad_reduce_in_fp32=True, overlap_grad_reduce=False)
        self.ddp = DistributedDataParallel(self.model.config, ddp_config, self.model)
        self.model.config.finalize_model_grads_func = _finalize_grads
        self.optimizer = get_megatron_optimizer(
            MegatronOptimizerConfig(
                optimizer="adam",
                lr=config.lr,
                min_lr=0.0,
                weight_decay=config.weight_decay,
                adam_beta1=config.beta1,
                adam_beta2=config.beta2,
                adam_eps=config.epsilon,
                clip_grad=config.clip_grad,
                bf16=self.context.dtype == torch.bfloat16,
                params_dtype=self.context.dtype,
            ),
            [self.ddp],
        )

    def train_step(
        self, microbatches: Sequence[PackedBatch], objective: Objective, learning_rate: float
    ) -> dict[str, float]:
        """One optimizer step over this replica's micro-batches (the same number on every replica).

        Returns metrics of the global batch on every rank: each term, `loss` (their weighted sum), the objective's
        metrics, `grad_norm`.
        """
        assert self.ddp is not None and self.optimizer is not None, "the engine was built without an optimizer"
        self.model.train()
        tokens = [labelled_tokens(batch) for batch in microbatches]
        units = self._global_units(tokens, objective)
        num_tokens = self._over_data_parallel(torch.tensor(float(sum(b.num_tokens for b in microbatches))))
        self.ddp.zero_grad_buffer()
        self.optimizer.zero_grad()
        sums: dict[str, Tensor] = {}

        def loss_of(
            logits: Tensor, tokens: LabelledTokens, batch: PackedBatch
        ) -> tuple[Tensor, Tensor, dict[str, Any]]:
            terms = self._apply(objective, logits, tokens, batch)
            loss = torch.zeros((), device=logits.device)
            for term in terms.terms:
                share = term.weight / max(units[term.name], 1e-12)
                loss = loss + term.loss_sum * share
                _add(sums, f"term/{term.name}", (term.loss_sum.detach() / max(units[term.name], 1e-12)))
                _add(sums, "term_weighted/loss", term.loss_sum.detach() * share)
            for name, (numerator, denominator) in terms.metric_sums.items():
                _add(sums, f"numerator/{name}", numerator)
                _add(sums, f"denominator/{name}", denominator)
            # Megatron divides all gradients by the number of tokens that is returned here; multiplied by it
            # first, the main loss is unchanged while the MoE auxiliary loss becomes its mean over tokens.
            local = torch.tensor(batch.num_tokens, dtype=torch.int64, device=logits.device)
            return loss * num_tokens.item(), local, {}

        self._run(microbatches, tokens, loss_of, forward_only=False)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        updated, grad_norm, _ = self.optimizer.step()
        metrics = self._reduce_metrics(sums)
        metrics["grad_norm"] = float(grad_norm)
        metrics["updated"] = float(bool(updated))
        return metrics

    @torch.no_grad()
    def logprobs(self, microbatches: Sequence[PackedBatch], temperature: float = 1.0) -> list[Tensor]:
        """Log-probability of every label [T] of each micro-batch (0 where a label has no weight), on every rank.

        Each replica gets those of its own micro-batches.
        """
        self.model.eval()
        tokens = [labelled_tokens(batch) for batch in microbatches]
        results: list[Tensor] = []

        def collect(
            logits: Tensor, tokens: LabelledTokens, batch: PackedBatch
        ) -> tuple[Tensor, Tensor, dict[str, Any]]:
            labels = batch.labels.to(logits.device)[batch.logit_positions]
            values = vocab_parallel_logprobs(logits, labels, self.context.tp.group, temperature)
            row = values.new_zeros(batch.num_tokens)
            row[batch.logit_positions.to(row.device)] = values
            results.append(row.cpu())
            zero = torch.zeros((), device=logits.device)
            return zero, torch.tensor(0, dtype=torch.int64, device=logits.device), {}

        self._run(microbatches, tokens, collect, forward_only=True)
        return self._from_last_stage(results, [batch.num_tokens for batch in microbatches])

    def sharded_state(self, *, loading: bool = False) -> dict[str, Any]:
        """Model and optimizer as Megatron sharded tensors, for `checkpoint/distributed.py`."""
        model = self.model.sharded_state_dict()
        optimizer = self.optimizer.sharded_state_dict(model, is_loading=loading)
        return {"model": model, "optimizer": optimizer}

    def load_sharded_state(self, state: Mapping[str, Any]) -> None:
        """Takes the state that a checkpoint gave back."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])

    def _apply(self, objective: Objective, logits: Tensor, tokens: LabelledTokens, batch: PackedBatch) -> LossTerms:
        labels = batch.labels.to(logits.device)[batch.logit_positions]
        group = self.context.tp.group
        logprobs = vocab_parallel_logprobs(logits, labels, group, objective.temperature)
        if objective.needs_entropy:
            entropy = vocab_parallel_entropy(logits.detach(), group, objective.temperature)
            tokens = LabelledTokens(tokens.weights_N, tokens.document_N, tokens.signals, entropy)
        return objective(logprobs, tokens)

    def _run(
        self,
        microbatches: Sequence[PackedBatch],
        tokens: Sequence[LabelledTokens],
        loss_of: Any,
        *,
        forward_only: bool,
    ) -> None:
        """Megatron's pipeline schedule (or its plain loop) over the micro-batches."""

        def forward_step(data: Iterator[tuple[PackedBatch, LabelledTokens]], model: Any) -> tuple[Tensor, Any]:
            batch, labelled = next(data)
            output = self.forward(batch, model)
            return output, lambda logits: loss_of(logits, labelled, batch)

        pairs = [(batch, t) for batch, t in zip(microbatches, tokens, strict=True)]
        get_forward_backward_func()(
            forward_step_func=forward_step,
            data_iterator=iter(pairs),
            model=self.ddp if self.ddp is not None else self.model,
            num_microbatches=len(pairs),
            seq_length=max(batch.num_tokens for batch in microbatches),  # the schedule sends true shapes
            micro_batch_size=1,
            forward_only=forward_only,
        )

    def forward(self, batch: PackedBatch, model: Any = None) -> Tensor:
        """This stage's output of a packed micro-batch: logits [N, vocabulary / tp] at labels on the last stage."""
        device = self.context.device
        packed = self.model.packed(batch.cu_seqlens, batch.positions.to(device))
        packed.logit_positions_N = batch.logit_positions.to(device)
        output: Tensor = (model if model is not None else self.model)(
            batch.tokens.to(device).unsqueeze(0), None, None, packed_seq_params=packed
        )
        return output

    def _global_units(self, tokens: Sequence[LabelledTokens], objective: Objective) -> dict[str, float]:
        totals: dict[str, float] = {}
        for labelled in tokens:
            for name, count in objective.count_units(labelled).items():
                totals[name] = totals.get(name, 0.0) + count
        values = self._over_data_parallel(torch.tensor(list(totals.values()), dtype=torch.float64))
        return dict(zip(totals, values.tolist(), strict=True))

    def _over_data_parallel(self, value: Tensor) -> Tensor:
        if self.context.dp.size > 1:
            value = value.to(self.context.device)
            dist.all_reduce(value, group=self.context.dp.group)
        return value

    def _reduce_metrics(self, sums: dict[str, Tensor]) -> dict[str, float]:
        """Sums over replicas, sent from the last stage to the others; a ratio is formed of global sums only."""
        names = self.context.broadcast_object(sorted(sums), source=self.context.world_size - 1)
        values = torch.zeros(len(names), dtype=torch.float64, device=self.context.device)
        if self.context.is_last_stage:
            values = torch.stack([sums[name].double().to(values.device) for name in names])
            dist.all_reduce(values, group=self.context.dp.group)
        if self.context.pp.size > 1:
            last = dist.get_global_rank(self.context.pp.group, self.context.pp.size - 1)
            dist.broadcast(values, src=last, group=self.context.pp.group)
        by_name = dict(zip(names, values.tolist(), strict=True))
        metrics = {name.removeprefix("term/"): value for name, value in by_name.items() if name.startswith("term/")}
        metrics["loss"] = by_name["term_weighted/loss"]
        for name, numerator in by_name.items():
            if name.startswith("numerator/"):
                ratio_name = name.removeprefix("numerator/")
                metrics[ratio_name] = numerator / max(by_name[f"denominator/{ratio_name}"], 1e-12)
        return metrics

    def _from_last_stage(self, rows: list[Tensor], lengths: Sequence[int]) -> list[Tensor]:
        if self.context.pp.size == 1:
            return rows
        joined = torch.cat(rows) if rows else torch.zeros(sum(lengths))
        joined = joined.to(self.context.device)
        last = dist.get_global_rank(self.context.pp.group, self.context.pp.size - 1)
        dist.broadcast(joined, src=last, group=self.context.pp.group)
        return list(joined.cpu().split(list(lengths)))


def labelled_tokens(batch: PackedBatch) -> LabelledTokens:
    """The tokens of a packed micro-batch that carry a loss weight."""
    positions = batch.logit_positions
    lengths = batch.cu_seqlens.diff()
    document = torch.repeat_interleave(torch.arange(lengths.numel()), lengths.long())
    return LabelledTokens(
        weights_N=batch.loss_weights[positions],
        document_N=document[positions],
        signals={name: values[positions] for name, values in batch.signals.items()},
    )


def _add(sums: dict[str, Tensor], name: str, value: Tensor) -> None:
    sums[name] = sums[name] + value.detach() if name in sums else value.detach()


def _finalize_grads(model: list[Any], num_tokens: Tensor | None = None, **kwargs: Any) -> None:
    """Megatron's reduction of gradients over replicas, sequence parts and tied embeddings, divided by tokens."""
    finalize_model_grads(model, num_tokens, **kwargs)
