"""NeMo-Aligner's own loss on log-probabilities that another process computed.

Runs in NeMo-Aligner's environment. The methods are those of its `MegatronGPTDPOModel`, bound to an object that has
what they read; that class itself builds a Megatron model of its own and asks for CUDA.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from nemo_aligner.models.nlp.gpt.megatron_gpt_dpo_model import MegatronGPTDPOModel
from torch import Tensor


class PreferenceLoss:
    """Loss, metrics and the gradient with respect to the log-probabilities, for one global batch.

    Args:
        dpo: section `model.dpo` of NeMo-Aligner's configuration; defaults are those of its class.
        micro_batch_size: pairs over which its loss takes a mean; micro-batches are averaged in turn.
    """

    loss_func = MegatronGPTDPOModel.loss_func
    sft_loss_func = MegatronGPTDPOModel.sft_loss_func
    get_reduced_masked_logps = MegatronGPTDPOModel.get_reduced_masked_logps
    split_output_tensor = MegatronGPTDPOModel.split_output_tensor

    def __init__(self, dpo: Mapping[str, Any], micro_batch_size: int) -> None:
        self.micro_batch_size = micro_batch_size
        self.ref_policy_kl_penalty = dpo.get("ref_policy_kl_penalty", 0.0)
        self.preference_avg_log_probs = dpo.get("preference_average_log_probs", False)
        self.sft_avg_log_probs = dpo.get("sft_average_log_probs", self.preference_avg_log_probs)
        self.preference_loss_weight = dpo.get("preference_loss_weight", 1)
        self.sft_loss_weight = dpo.get("sft_loss_weight", 0)
        self.preference_loss = dpo.get("preference_loss", "dpo")
        self.gt_reward_scale = dpo.get("gt_reward_scale", 1.0)

    def __call__(self, logprobs: Tensor, batch: Mapping[str, Tensor]) -> tuple[dict[str, float], Tensor]:
        """Metrics as NeMo-Aligner names them, and dL/dlogprobs.

        Args:
            logprobs: [2B, T], of the chosen answers and then of the rejected ones.
            batch: what the trainer's collate function and its reference pass put together.
        """
        logprobs = logprobs.detach().requires_grad_()
        sums: dict[str, Tensor] = {}
        rewards: list[Tensor] = []
        num_micro = 0
        for rows, part in self._microbatches(batch):
            values = self._one(logprobs[rows], part)
            sums = {name: sums.get(name, 0.0) + value for name, value in values.items()}
            rewards.append(self._rewards(logprobs[rows].detach(), part))
            num_micro += 1
        means = {name: value / num_micro for name, value in sums.items()}
        (gradient,) = torch.autograd.grad(means["loss"], logprobs)
        chosen, rejected = (torch.cat([part[side] for part in rewards]) for side in (0, 1))
        everything = torch.cat([chosen, rejected])
        metrics = {name: float(value.detach()) for name, value in means.items()} | {
            "rewards_chosen_mean": float(chosen.mean()),
            "rewards_rejected_mean": float(rejected.mean()),
            "rewards_all_mean": float(everything.mean()),
            "rewards_all_std": float(everything.std()),
        }
        return metrics, gradient

    def _microbatches(self, batch: Mapping[str, Tensor]) -> Iterator[tuple[Tensor, dict[str, Tensor]]]:
        """Rows of the log-probabilities, and the parts of the batch that belong to them."""
        num_pairs = len(batch["chosen"])
        names = [
            f"{kind}{side}{what}"
            for side in ("chosen", "rejected")
            for kind, what in (("", "_labels"), ("", "_rewards"), ("ref_policy_log_probs_", ""))
        ]
        for start in range(0, num_pairs, self.micro_batch_size):
            pairs = torch.arange(start, min(start + self.micro_batch_size, num_pairs))
            yield torch.cat([pairs, pairs + num_pairs]), {name: batch[name][pairs] for name in names}

    def _one(self, logprobs: Tensor, part: Mapping[str, Tensor]) -> dict[str, Tensor]:
        labels = torch.cat([part["chosen_labels"], part["rejected_labels"]])
        reference = torch.cat([part["ref_policy_log_probs_chosen"], part["ref_policy_log_probs_rejected"]])
        given = torch.cat([part["chosen_rewards"], part["rejected_rewards"]])
        preference, accuracy = self.loss_func(
            logprobs, reference, labels, given, average_log_probs=self.preference_avg_log_probs
        )
        sft = torch.zeros_like(preference)
        if self.sft_loss_weight != 0:
            sft = self.sft_loss_func(logprobs, labels, average_log_probs=self.sft_avg_log_probs)
        loss = self.preference_loss_weight * preference + self.sft_loss_weight * sft
        return {"loss": loss, "preference_loss": preference, "sft_loss": sft, "acc": accuracy}

    def _rewards(self, logprobs: Tensor, part: Mapping[str, Tensor]) -> Any:
        labels = torch.cat([part["chosen_labels"], part["rejected_labels"]])
        reference = torch.cat([part["ref_policy_log_probs_chosen"], part["ref_policy_log_probs_rejected"]])
        return self.split_output_tensor(
            self.get_reduced_masked_logps(logprobs - reference, labels, average_log_probs=self.preference_avg_log_probs)
        )
