"""The router of expert layers: Megatron's top-k router with losses whose scope is exact, and counts of its choices.

Megatron weighs a rank's share of the routers' losses by the tokens of that rank, so that under tensor and context
parallelism they shrink by tp * cp, and padding changes them. Here, with a loss that the engine divides by the tokens
of the global batch:

    auxiliary loss   coefficient * sum over micro-batches of T_b * E * sum_i f_bi P_bi / T   (Switch, equation 4)
    z-loss           coefficient * sum over tokens of logsumexp(logits)^2 / T                (ST-MoE, equation 5)

over the T real tokens of the batch. T_b are those of micro-batch b on one replica (all its tensor- and
context-parallel ranks), f_bi the share of their choices that fell on expert i, P_bi their mean probability of it.
The auxiliary loss is thus one of micro-batches: splitting the batch otherwise changes it. The z-loss is not.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from megatron.core.transformer.moe.moe_utils import MoEAuxLossAutoScaler
from megatron.core.transformer.moe.router import TopKRouter
from torch import Tensor


class Router(TopKRouter):
    """Megatron's router with our losses and counts."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._choices = torch.zeros(self.num_experts, dtype=torch.float64)

    def routing(self, logits: Tensor, padding_mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Probabilities and choices [tokens, experts]; `padding_mask` is true where a token is padding."""
        probs, routing_map = super().routing(logits, padding_mask)
        if self.training and torch.is_grad_enabled():
            real = routing_map if padding_mask is None else routing_map & ~padding_mask.reshape(-1, 1)
            self._choices += real.sum(0).double().cpu()
        return probs, routing_map

    def take_choices(self) -> Tensor:
        """How often real tokens of this rank chose each expert [experts] since the last call."""
        taken, self._choices = self._choices, torch.zeros_like(self._choices)
        return taken

    def _apply_aux_loss(
        self, probs: Tensor, scores_for_aux_loss: Tensor, routing_map: Tensor, with_padding_mask: bool = False
    ) -> Tensor:
        coefficient = self.get_aux_loss_coeff("aux_loss")
        if not coefficient:
            return probs
        choices = routing_map.sum(0).to(scores_for_aux_loss.dtype)
        dist.all_reduce(choices, group=self.tp_cp_group)
        num_tokens = choices.sum() / self.topk
        # T_b * E * sum_i (choices_i / (k T_b)) (sum of scores_i / T_b); each rank adds the scores of its tokens
        loss = (choices * scores_for_aux_loss.sum(0)).sum() * self.num_experts / (self.topk * num_tokens.clamp(min=1.0))
        scaled: Tensor = MoEAuxLossAutoScaler.apply(probs, loss * coefficient)
        return scaled

    def apply_z_loss(self, logits: Tensor, padding_mask: Tensor | None = None) -> Tensor:
        """Attaches the z-loss of this rank's real tokens to the logits."""
        if not self.config.moe_z_loss_coeff or not (self.training and torch.is_grad_enabled()):
            return logits
        squares = torch.logsumexp(logits, dim=-1).square()
        if padding_mask is not None:
            squares = squares.masked_fill(padding_mask, 0.0)
        scaled: Tensor = MoEAuxLossAutoScaler.apply(logits, squares.sum() * self.config.moe_z_loss_coeff)
        return scaled
