"""A `DAPOTrainer` in the shape of NeMo-Aligner's `DPOTrainer` and `ReinforceTrainer`.

Runs in NeMo-Aligner's environment, see `start.py`. It takes the same things (a section `trainer.dapo`, a model, an
optimizer, a scheduler, a logger, a checkpoint callback, a run timer), has the same methods, and uses the same helpers.
Of the model it asks a rollout, and the loss of a mini-batch of groups.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from statistics import fmean
from typing import Any

import torch
from nemo.utils import logging
from nemo_aligner.utils.distributed import SyncTimer
from nemo_aligner.utils.train_utils import clip_gradients
from nemo_aligner.utils.trainer_utils import check_progress
from nemo_aligner.utils.utils import clear_memory
from omegaconf import DictConfig
from torch import Tensor
from tqdm import tqdm  # type: ignore[import-untyped]

Rollout = Mapping[str, Any]


class DAPOTrainer:
    """Trainer to coordinate DAPO training: a rollout, its mini-batches, and the weights handed on, step after step.

    Args:
        cfg: section `trainer.dapo`.
        model: see `remote.RemotePolicy`.
        num_answers: of a group; `model.cfg.global_batch_size` counts answers, as its other trainers count samples.
    """

    def __init__(
        self,
        cfg: DictConfig,
        model: Any,
        optimizer: torch.optim.Optimizer,
        scheduler: Any,
        logger: Any,
        ckpt_callback: Any,
        run_timer: Any,
        num_answers: int,
    ) -> None:
        self.cfg, self.model, self.optimizer, self.scheduler = cfg, model, optimizer, scheduler
        self.logger, self.ckpt_callback, self.run_timer = logger, ckpt_callback, run_timer
        self.groups_of_minibatch = model.cfg.global_batch_size // num_answers
        self.step = 0
        """DAPO steps: rollouts."""
        self.consumed_samples = 0
        self.dapo_optimization_step = 0
        self.set_max_steps()
        self.timer = SyncTimer(
            reduction="mean", sync_cuda=True, buffer_size=1, reduce_op=torch.distributed.ReduceOp.MAX
        )

    def generate_rollouts(self) -> tuple[Rollout, dict[str, float]]:
        """The groups of this step with rewards and advantages, and what is logged of them."""
        self.model.prepare_for_inference()
        rollout = self.model.generate_rollout(self.step)
        self.model.finish_inference()
        rewards: Tensor = rollout["rewards"]
        self.consumed_samples += rewards.numel()
        metrics = {
            "rollout_size": rewards.numel(),
            "rewards": rewards.mean().item(),
            "scores": rollout["scores"].mean().item(),
            "response_lengths": rollout["response_lengths"].double().mean().item(),
            "consumed_samples": self.consumed_samples,
        }
        return rollout, metrics

    def minibatches(self, rollout: Rollout) -> Iterator[dict[str, Any]]:
        """Whole groups in order; a mini-batch of which no answer stays in the loss is left out."""
        for start in range(0, len(rollout["learnt"]), self.groups_of_minibatch):
            groups = list(range(start, min(start + self.groups_of_minibatch, len(rollout["learnt"]))))
            if int(rollout["learnt"][groups].sum()):
                yield {"groups": groups}

    def train_single_step(self, minibatch: Mapping[str, Any]) -> tuple[float, dict[str, float]]:
        """One optimizer step."""
        self.optimizer.zero_grad()
        self.model.prepare_for_training_step()
        loss_mean, metrics = self.model.get_loss_and_metrics(batch=minibatch, forward_only=False)
        self.model.finish_training_step()
        grad_norm = clip_gradients(self.model, self.cfg.gradient_clip_val)
        lr = self.optimizer.param_groups[0]["lr"]
        self.optimizer.step(closure=None)
        self.dapo_optimization_step += 1
        norm = {} if grad_norm is None else {"grad_norm": float(grad_norm)}
        return loss_mean, {**metrics, **norm, "lr": lr, "loss": loss_mean}

    def run_training(self, rollout: Rollout) -> dict[str, float]:
        """The updates of a rollout, all at one rate; the means of their metrics."""
        self.model.prepare_for_training()
        updates = []
        for minibatch in self.minibatches(rollout):
            _, metrics = self.train_single_step(minibatch)
            self.logger.log_metrics(metrics, step=self.dapo_optimization_step, prefix="train_optim/")
            updates.append(metrics)
        self.model.finish_training()
        self.scheduler.step()
        return {name: fmean(update[name] for update in updates) for name in updates[0]} if updates else {}

    def fit(self) -> None:
        """All steps that are not yet done."""
        self.run_timer.start_time()
        global_pbar = tqdm(
            range(self.step, self.max_steps), initial=self.step, total=self.max_steps, leave=True, desc="DAPO steps"
        )
        for _ in global_pbar:
            self.timer.start("rollout_time")
            rollout, metrics = self.generate_rollouts()
            self.timer.stop("rollout_time")
            self.timer.start("train_time")
            metrics |= self.run_training(rollout)
            self.timer.stop("train_time")
            clear_memory()
            metrics |= {name: self.timer.get(name) for name in ("rollout_time", "train_time")}
            self.logger.log_metrics(metrics, step=self.step, prefix="train/")
            self.step += 1
            run_time_exceeded = self.run_timer.is_finished()
            _, save_model, is_train_end = check_progress(
                self.step, self.max_steps, 0, self.cfg.save_interval, 0, run_time_exceeded=run_time_exceeded
            )
            global_pbar.set_postfix(metrics)
            if save_model:
                self.save({name: torch.as_tensor(value) for name, value in metrics.items()}, is_train_end)
            if run_time_exceeded:
                logging.info(f"Time limit given by run_timer={self.run_timer} reached. Stopping run")
                return
        self.logger.finalize()

    def save(self, extra_candidates: Mapping[str, Tensor] = {}, is_train_end: bool = False) -> None:
        """Hands the state to the checkpoint callback."""
        torch.distributed.barrier()
        state = {name: torch.tensor(value, dtype=torch.int32) for name, value in self.state_dict().items()}
        self.ckpt_callback.custom_save(monitor_candidates=state | dict(extra_candidates), is_train_end=is_train_end)

    def set_max_steps(self) -> None:
        """There are no epochs: the queue of prompts has no end."""
        self.max_steps = int(self.cfg.max_steps)

    def state_dict(self) -> dict[str, int]:
        """Counters."""
        names = ("step", "consumed_samples", "dapo_optimization_step")
        return {name: getattr(self, name) for name in names}

    def load_state_dict(self, state_dict: Mapping[str, int]) -> None:
        """Takes the counters of a checkpoint."""
        for name in ("step", "consumed_samples", "dapo_optimization_step"):
            setattr(self, name, int(state_dict[name]))
