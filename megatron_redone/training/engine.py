"""The training engine: Megatron's DDP, optimizer and pipeline schedules under one `train_step`.

The engine alone knows vocab-parallel softmax, pipeline schedules and gradient reduction. Objectives give sums over
labelled tokens; the engine divides each term once by its units in the global batch (all micro-batches, all
data-parallel replicas) before the backward pass, and Megatron only sums.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist
from megatron.core.distributed import DistributedDataParallel
from megatron.core.pipeline_parallel import get_forward_backward_func
from torch import Tensor
from torch.profiler import record_function

from megatron_redone.common.logging import get_logger
from megatron_redone.data.batch import PackedBatch
from megatron_redone.models.build import build_model, same_length_rows
from megatron_redone.models.config import ModelShape
from megatron_redone.models.expert_choices import EXPERTS, routers_of, take_changed
from megatron_redone.models.router import Router
from megatron_redone.models.weights import export_weights, load_weights
from megatron_redone.objectives.base import LabelledTokens, LossTerms, Objective
from megatron_redone.parallel.context import ParallelContext
from megatron_redone.training.config import OptimizerConfig
from megatron_redone.training.gpu_start import MLPGraphs, start_tp_overlap
from megatron_redone.training.optimizer import build_optimizer, one_or_all, step_with_norm, wrap_chunks
from megatron_redone.training.optimizer_state import (
    load_optimizer_state,
    num_steps_of,
    sharded_optimizer_state,
    whole_state_of,
)
from megatron_redone.training.parts import FORWARD, LOSS, OPTIMIZER, SCHEDULE
from megatron_redone.training.rows import Rows
from megatron_redone.training.step_guard import StepGuard

LOG = get_logger("training")


class MegatronEngine:
    """A model, and its optimizer if it is trained, on one parallel layout."""

    def __init__(self, shape: ModelShape, context: ParallelContext, optimizer: OptimizerConfig | None = None) -> None:
        self.shape, self.context = shape, context
        self.tokenizer_fingerprint: str | None = None
        """Of the tokenizer that its token ids are of, where it is known."""
        start_tp_overlap(shape, context)
        self.model = build_model(_with_router_losses(shape, optimizer), context)
        self.rows = Rows(self.model)
        self.ddp: list[DistributedDataParallel] = []
        """The chunks of the model with their gradient buffers; empty where nothing is trained."""
        self.optimizer: Any = None
        self._weights_in_shards = False
        self.guard = StepGuard((optimizer or OptimizerConfig()).guard)
        self._optimizer_config = optimizer

    def load_hf_weights(self, tensors: Mapping[str, Tensor], source: str) -> None:
        """Fills the model from whole Hugging Face tensors; the optimizer, if any, starts afresh from them."""
        load_weights(self.model, self.context, tensors, source)
        self._begin_training()

    def load_megatron_weights(self, read: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        """Fills the model from a distributed checkpoint; `read` fills a sharded state. Else as `load_hf_weights`."""
        self.model.load_state_dict(read({"model": self.model.sharded_state_dict()})["model"])
        self._begin_training()

    def _begin_training(self) -> None:
        if self._optimizer_config is not None:
            self.ddp = wrap_chunks(self.model, self.context)
            self.optimizer = build_optimizer(self.ddp, self._optimizer_config, self.context)
            self._graphs = MLPGraphs(self.context, self.ddp, self.optimizer)

    def export_hf_weights(self) -> Iterator[tuple[str, Tensor]]:
        """Streams (name, whole tensor); a collective that every rank iterates to the end."""
        self._gather_updated_weights()
        return export_weights(self.model, self.context)

    @property
    def row_multiple(self) -> int:
        """What the length of a packed row must be a multiple of under this layout."""
        return self.rows.multiple

    def train_step(
        self, microbatches: Sequence[PackedBatch], objective: Objective, learning_rate: float
    ) -> dict[str, float]:
        """One optimizer step over this replica's micro-batches (the same number on every replica).

        A step whose loss or gradient is not finite, or jumps, is left out as `optimizer.guard` says.

        Returns metrics of the global batch on every rank: each term, `loss` (their weighted sum), the objective's
        metrics, `grad_norm` (before clipping), `updated` (0 where the step was left out), `steps_skipped` so far.

        Raises:
            TrainingError: on every rank, where the guard ends the run.
        """
        return self.step_or_skip(self.accumulate_gradients(microbatches, objective), microbatches, learning_rate)

    def step_or_skip(
        self, metrics: Mapping[str, float], microbatches: Sequence[PackedBatch], learning_rate: float
    ) -> dict[str, float]:
        """The second half of `train_step`: an update with the gradients at hand, or none where the guard objects.

        Args:
            metrics: `loss` is what the guard looks at.
        """
        with record_function(OPTIMIZER):
            grad_norm = self._grad_norm()
        problem = self.guard.problem(metrics["loss"], grad_norm)
        if problem is None:
            self.update(learning_rate, grad_norm)
        else:
            ids = [sample for batch in microbatches for sample in batch.sample_ids]
            samples = [sample for part in self.context.gather_objects(ids, self.context.dp) for sample in part]
            told = self.guard.refuse(problem, samples)
            if self.context.is_main:
                LOG.warning(told)
        updated = float(problem is None)
        return {**metrics, "grad_norm": grad_norm, "updated": updated, "steps_skipped": float(self.guard.skipped)}

    def _grad_norm(self) -> float:
        """Readies the gradients; their norm over all ranks before clipping, 0 in fp64, where Megatron has none."""
        self.optimizer.prepare_grads()
        return 0.0 if self.context.dtype == torch.float64 else float(self.optimizer.get_grad_norm())

    def accumulate_gradients(self, microbatches: Sequence[PackedBatch], objective: Objective) -> dict[str, float]:
        """The first half of `train_step`: gradients of the global batch, summed over micro-batches and ranks."""
        assert self.ddp, "the engine was built without an optimizer"
        self.model.train()
        microbatches = self._even(microbatches)
        tokens = [labelled_tokens(batch) for batch in microbatches]
        units = self._global_units(tokens, objective)
        num_tokens = self._over_data_parallel(torch.tensor(float(sum(b.num_real_tokens for b in microbatches))))
        for ddp in self.ddp:
            ddp.zero_grad_buffer()
        self.optimizer.zero_grad()
        sums: dict[str, Tensor] = {}

        def loss_of(
            logits: Tensor, tokens: LabelledTokens, batch: PackedBatch
        ) -> tuple[Tensor, Tensor, dict[str, Any]]:
            terms = self._apply(objective, logits, tokens, batch)
            loss = torch.zeros((), device=logits.device, dtype=_loss_dtype(logits))
            for term in terms.terms:
                share = term.weight / max(units[term.name], 1e-12)
                loss = loss + term.loss_sum * share
                _add(sums, f"term/{term.name}", (term.loss_sum.detach() / max(units[term.name], 1e-12)))
                _add(sums, "term_weighted/loss", term.loss_sum.detach() * share)
            for name, (numerator, denominator) in terms.metric_sums.items():
                _add(sums, f"numerator/{name}", numerator)
                _add(sums, f"denominator/{name}", denominator)
            # Megatron divides all gradients by the sum of the numbers of tokens that are returned here; multiplied by
            # it first, the main loss is unchanged, while what a router adds becomes a mean over tokens.
            local = torch.tensor(self.rows.num_real_tokens(batch), dtype=torch.int64, device=logits.device)
            return loss * num_tokens.item(), local, {}

        self._run(microbatches, tokens, loss_of, forward_only=False)
        return {**self._reduce_metrics(sums), **self._expert_loads()}

    def update(self, learning_rate: float, grad_norm: float | None = None) -> None:
        """Clips the gradients and moves the weights.

        Args:
            grad_norm: what `_grad_norm` gave; by default it is called here. Megatron's own `step` would form the norm,
                and the fp32 copy of the gradients, once more.
        """
        with record_function(OPTIMIZER):
            for group in self.optimizer.param_groups:
                group["lr"] = learning_rate
            step_with_norm(self.optimizer, self._grad_norm() if grad_norm is None else grad_norm)
            self._graphs.after_step()
        self._weights_in_shards = self.context.config.overlap and self.context.config.distributed_optimizer

    def _gather_updated_weights(self) -> None:
        """With overlap the distributed optimizer leaves gathering to the next forward pass; other readers come here."""
        if self._weights_in_shards:
            for ddp in self.ddp:
                ddp.start_param_sync(force_sync=True)
            self._weights_in_shards = False

    def export_hf_gradients(self) -> Iterator[tuple[str, Tensor]]:
        """Streams (Hugging Face name, gradient) between `accumulate_gradients` and `update`, for proofs.

        A collective, as `export_hf_weights`. With the distributed optimizer a rank has the sum over replicas of its
        own shard only, so the shards are gathered into the buffers first.
        """
        if self.context.config.distributed_optimizer:
            for ddp in self.ddp:
                for buffer in [*ddp.buffers, *ddp.expert_parallel_buffers]:
                    group = buffer.data_parallel_group
                    for bucket in buffer.buckets:
                        shard = bucket.grad_data.chunk(dist.get_world_size(group))[dist.get_rank(group)].clone()
                        dist.all_gather_into_tensor(bucket.grad_data, shard, group=group)
        return export_weights(self.model, self.context, lambda parameter: parameter.main_grad)  # type: ignore[attr-defined]

    def export_hf_moments(self, name: str) -> Iterator[tuple[str, Tensor]]:
        """Streams (Hugging Face name, moment of Adam), for proofs; a collective, as `export_hf_weights`.

        Args:
            name: `exp_avg` or `exp_avg_sq`.
        """
        return export_weights(
            self.model, self.context, lambda parameter: whole_state_of(self.optimizer, parameter, name)
        )

    @torch.no_grad()
    def logprobs(self, microbatches: Sequence[PackedBatch], temperature: float = 1.0) -> list[Tensor]:
        """Log-probability of every label [T] of each micro-batch (0 where a label has no weight), on every rank.

        Each replica gets those of its own micro-batches.
        """
        self.model.train(False)
        self._gather_updated_weights()
        evened = self._even(microbatches)
        tokens = [labelled_tokens(batch) for batch in evened]
        results: list[Tensor] = []

        def collect(
            logits: Tensor, tokens: LabelledTokens, batch: PackedBatch
        ) -> tuple[Tensor, Tensor, dict[str, Any]]:
            values = self.rows.label_logprobs(logits, batch, temperature)
            row = values.new_zeros(batch.num_tokens)
            row[batch.logit_positions.to(row.device)] = values
            results.append(row.cpu())
            zero = torch.zeros((), device=logits.device)
            return zero, torch.tensor(0, dtype=torch.int64, device=logits.device), {}

        self._run(evened, tokens, collect, forward_only=True)
        rows = self._from_last_stage(results, [batch.num_tokens for batch in evened])
        return [row[: batch.num_tokens] for row, batch in zip(rows, microbatches, strict=False)]

    def sharded_state(self) -> dict[str, Any]:
        """Model and optimizer as Megatron sharded tensors, for `checkpoint/distributed.py`. A collective."""
        self._gather_updated_weights()
        model = self.model.sharded_state_dict()
        return {"model": model, "optimizer": sharded_optimizer_state(self.optimizer, self.model, model)}

    @property
    def num_updates(self) -> int:
        """Optimizer steps so far; `load_sharded_state` needs it beside the sharded state."""
        return num_steps_of(self.optimizer)

    def load_sharded_state(self, state: Mapping[str, Any], num_updates: int) -> None:
        """Takes the state that a checkpoint gave back for `sharded_state`, of this layout or of another."""
        self.model.load_state_dict(state["model"])
        load_optimizer_state(self.optimizer, self.model, state["optimizer"], num_updates)
        fp8 = self.context.config.gpu.fp8
        if fp8 is not None and fp8.recipe == "delayed" and self.context.is_main:
            LOG.warning("FP8 with delayed scaling: largest values of earlier steps are in no checkpoint and start anew")

    def _apply(self, objective: Objective, logits: Tensor, tokens: LabelledTokens, batch: PackedBatch) -> LossTerms:
        logprobs = self.rows.label_logprobs(logits, batch, objective.temperature)
        if objective.needs_entropy:
            entropy = self.rows.label_entropy(logits, batch, objective.temperature, objective.trains_entropy)
            tokens = LabelledTokens(tokens.weights_N, tokens.document_N, tokens.signals, entropy)
        return objective(logprobs, tokens)

    def _even(self, microbatches: Sequence[PackedBatch]) -> list[PackedBatch]:
        """Micro-batches as the schedule and the dispatcher of tokens need them: in number, and in length.

        Interleaved stages take a multiple of pp of them: fillers without weight are added.
        """
        batches = list(microbatches)
        if self.context.config.vpp > 1:
            names = sorted(batches[0].signals)
            while len(batches) % self.context.pp.size:
                batches.append(PackedBatch.from_documents([], self.row_multiple, signal_names=names))
        if (tokens := self.context.config.gpu.row_tokens) is not None:
            batches = [self.rows.filled_to(batch, tokens) for batch in batches]
        if same_length_rows(self.shape, self.context.config):
            longest = torch.tensor(max(batch.num_tokens for batch in batches), device=self.context.device)
            dist.all_reduce(longest, op=dist.ReduceOp.MAX, group=self.context.dp.group)
            batches = [batch.padded_to(int(longest)) for batch in batches]
        return batches

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

            def labelled_loss(logits: Tensor) -> Any:
                with record_function(LOSS):
                    return loss_of(logits, labelled, batch)

            with record_function(FORWARD):
                return self.rows.forward(model, batch), labelled_loss

        pairs = list(zip(microbatches, tokens, strict=True))
        chunks: list[Any] = [*self.ddp] or [*self.model]
        try:
            with record_function(SCHEDULE):
                get_forward_backward_func()(
                    forward_step_func=forward_step,
                    data_iterator=one_or_all([iter(pairs) for _ in chunks]),
                    model=one_or_all(chunks),
                    num_microbatches=len(pairs),
                    # where lengths differ, true shapes are sent
                    seq_length=max(batch.num_tokens for batch in microbatches),
                    micro_batch_size=1,
                    forward_only=forward_only,
                )
        finally:
            self.rows.forget_choices()

    def take_choices_changed(self) -> float:
        """Share of the replayed choices of experts (tokens times layers, over all ranks) since the last call for which
        the router would have taken another set; 0 where none was replayed. A collective."""
        counts = torch.tensor(take_changed(routers_of(self.model.modules())), dtype=torch.float64)
        if self.context.world_size > 1:
            counts = counts.to(self.context.device)
            dist.all_reduce(counts)
        return float(counts[1] / counts[0].clamp(min=1.0))

    def _expert_loads(self) -> dict[str, float]:
        """How evenly the router of each layer chose since the last call, over all ranks.

        Metrics `expert_load_max/LAYER` and `expert_load_min/LAYER`: choices of the most and least chosen expert over
        their mean; 1 is even.
        """
        if not self.shape.is_moe:
            return {}
        choices = torch.zeros(self.shape.num_layers, self.shape.num_experts, dtype=torch.float64)
        for module in self.model.modules():
            if isinstance(module, Router):
                choices[module.layer_number - 1] += module.take_choices()
        choices = choices.to(self.context.device)
        if self.context.world_size > 1:
            dist.all_reduce(choices)
        loads = choices / choices.mean(dim=1, keepdim=True).clamp(min=1e-12)
        found: dict[str, float] = {}
        for layer, load in enumerate(loads.tolist(), 1):
            found[f"expert_load_max/{layer:02d}"], found[f"expert_load_min/{layer:02d}"] = max(load), min(load)
        return found

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
    return LabelledTokens(
        weights_N=batch.loss_weights[positions],
        document_N=batch.document_of_token[positions],
        signals={name: values[positions] for name, values in batch.signals.items() if not name.startswith(EXPERTS)},
    )


def _with_router_losses(shape: ModelShape, optimizer: OptimizerConfig | None) -> ModelShape:
    if optimizer is None or not shape.is_moe:
        return shape
    aux = optimizer.router_aux_loss
    return shape.model_copy(
        update={"router_z_loss_coefficient": optimizer.router_z_loss}
        | ({} if aux is None else {"router_aux_loss_coefficient": aux})
    )


def _loss_dtype(logits: Tensor) -> torch.dtype:
    return torch.promote_types(logits.dtype, torch.float32)


def _add(sums: dict[str, Tensor], name: str, value: Tensor) -> None:
    sums[name] = sums[name] + value.detach() if name in sums else value.detach()
