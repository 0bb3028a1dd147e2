"""What NeMo-Aligner's trainer asks of a model, an optimizer and a tokenizer, answered by our engine over the wire.

Runs in NeMo-Aligner's environment.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor

from megatron_redone.nemo_aligner.inside.loss import PreferenceLoss
from megatron_redone.nemo_aligner.inside.remote_connection import Connection
from megatron_redone.nemo_aligner.wire import Array


class RemoteTokenizer:
    """The part of NeMo's tokenizer interface that its preference data set uses."""

    def __init__(self, connection: Connection, eos_id: int) -> None:
        self.connection, self.eos_id = connection, eos_id

    def text_to_ids(self, text: str) -> list[int]:
        """Token ids, as our tokenizer and chat template give them."""
        ids: list[int] = self.connection.ask("encode", text=text).arrays["ids"].tolist()
        return ids


class RemoteModel:
    """The model interface that `DPOTrainer` calls.

    Attributes:
        cfg: section `model` of NeMo-Aligner's configuration.
        use_mcore_dist_optim: tells its `clip_gradients` that the optimizer clips in its step, as ours does.
    """

    use_mcore_dist_optim = True
    with_megatron_fused_adam = False

    def __init__(self, cfg: DictConfig, connection: Connection) -> None:
        self.cfg, self.connection = cfg, connection
        self.loss = PreferenceLoss(cfg.dpo, cfg.micro_batch_size)

    def get_ref_policy_logprobs(self, batch: Mapping[str, Tensor]) -> Tensor:
        """[2B, T] of the frozen reference model, chosen answers first; 0 where there is no label."""
        return self._logprobs("reference_logprobs", batch)

    def get_loss_and_metrics(self, batch: Mapping[str, Tensor], forward_only: bool) -> tuple[float, dict[str, float]]:
        """NeMo-Aligner's loss of the global batch; the engine then has its gradients."""
        metrics, gradient = self.loss(self._logprobs("policy_logprobs", batch), batch)
        if not forward_only:
            arrays = {**_arrays(batch), "gradient": gradient.numpy()}
            self.connection.ask("accumulate", arrays, ids=batch["ids"], metrics=metrics)
        return metrics["loss"], metrics

    def prepare_for_training_step(self) -> None:
        """The engine prepares itself."""

    finish_training_step = prepare_for_validation_step = finish_validation_step = prepare_for_training_step

    def _logprobs(self, kind: str, batch: Mapping[str, Tensor]) -> Tensor:
        answer = self.connection.ask(kind, _arrays(batch), ids=batch["ids"])
        return torch.from_numpy(answer.arrays["logprobs"])


def _arrays(batch: Mapping[str, Tensor]) -> dict[str, Array]:
    """Tokens and labels [2B, T], chosen answers first, and the tokens of each that are no padding [2B]."""
    sides = ("chosen", "rejected")
    return {
        "tokens": torch.cat([batch[side] for side in sides]).numpy(),
        "labels": torch.cat([batch[f"{side}_labels"] for side in sides]).numpy(),
        "lengths": torch.cat([batch[f"{side}_length"] for side in sides]).numpy(),
    }


class RemoteOptimizer(torch.optim.Optimizer):
    """Carries the learning rate that NeMo's scheduler sets; the engine's optimizer moves the weights with it."""

    def __init__(self, lr: float, connection: Connection) -> None:
        super().__init__([torch.nn.Parameter(torch.zeros(()))], {"lr": lr})
        self.connection = connection

    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Clips the gradients and takes one step, in the engine."""
        assert closure is None, "the trainer gives no closure"
        self.connection.ask("update", learning_rate=self.param_groups[0]["lr"])

    def zero_grad(self, set_to_none: bool = True) -> None:
        """The engine starts each accumulation from zero."""


class RemoteCheckpoints:
    """The engine's process saves by its own settings; the trainer's request only marks the end."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def custom_save(self, monitor_candidates: Mapping[str, Any], is_train_end: bool = False) -> None:
        """Tells it."""
        self.connection.tell("saved", step=int(monitor_candidates["step"]), is_train_end=is_train_end)


class RemoteLogger:
    """Sends what the trainer logs."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None, prefix: str = "") -> None:
        """As numbers."""
        values = {f"{prefix}{name}": float(value) for name, value in metrics.items()}
        self.connection.tell("metrics", step=step, metrics=values)

    def finalize(self) -> None:
        """Nothing is kept back."""
