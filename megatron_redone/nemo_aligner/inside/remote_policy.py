"""The model that `DAPOTrainer` calls, answered by our engine and our rollouts over the wire.

Runs in NeMo-Aligner's environment, see `start.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from omegaconf import DictConfig

from megatron_redone.nemo_aligner.inside.remote_connection import Connection


class RemotePolicy:
    """The policy: it samples groups, and gives the DAPO loss of some of them.

    Attributes:
        cfg: section `model`.
        use_mcore_dist_optim: tells NeMo-Aligner's `clip_gradients` that the optimizer clips in its step, as ours does.
    """

    use_mcore_dist_optim = True
    with_megatron_fused_adam = False

    def __init__(self, cfg: DictConfig, connection: Connection) -> None:
        self.cfg, self.connection = cfg, connection

    def generate_rollout(self, step: int) -> dict[str, Any]:
        """Ids of the rows [groups]; tensors of `dapo_train.rollout_arrays`."""
        answer = self.connection.ask("rollout", step=step)
        return {"ids": answer.values["ids"], **{name: torch.from_numpy(a) for name, a in answer.arrays.items()}}

    def get_loss_and_metrics(self, batch: Mapping[str, Any], forward_only: bool) -> tuple[float, dict[str, float]]:
        """The loss of a mini-batch of groups of the last rollout; the engine then has its gradients."""
        assert not forward_only, "the trainer has no validation"
        metrics: dict[str, float] = self.connection.ask("accumulate", groups=batch["groups"]).values["metrics"]
        return metrics["loss"], metrics

    def finish_training(self) -> None:
        """Has the weights handed to the generator."""
        self.connection.ask("finish_training")

    def prepare_for_inference(self) -> None:
        """The engine prepares itself."""

    finish_inference = prepare_for_training = prepare_for_training_step = finish_training_step = prepare_for_inference
