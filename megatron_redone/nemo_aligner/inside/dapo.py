"""The `DAPOTrainer` at work, around proxies of our engine and our rollouts.

Runs in NeMo-Aligner's environment, see `start.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nemo.core.optim.lr_scheduler import get_scheduler
from omegaconf import OmegaConf

from megatron_redone.nemo_aligner.inside.dapo_trainer import DAPOTrainer
from megatron_redone.nemo_aligner.inside.no_time_limit import NoTimeLimit
from megatron_redone.nemo_aligner.inside.one_process import one_process
from megatron_redone.nemo_aligner.inside.remote import RemoteCheckpoints, RemoteLogger, RemoteOptimizer
from megatron_redone.nemo_aligner.inside.remote_connection import Connection
from megatron_redone.nemo_aligner.inside.remote_policy import RemotePolicy


def train(order: Mapping[str, Any], connection: Connection) -> None:
    """Lets the trainer run to its end.

    Args:
        order: `config` in NeMo-Aligner's style, and `step` to go on from.
    """
    cfg = OmegaConf.create(order["config"])
    one_process()
    optimizer = RemoteOptimizer(cfg.model.optim.lr, connection)
    schedule = dict(cfg.model.optim.sched)
    trainer = DAPOTrainer(
        cfg=cfg.trainer.dapo,
        model=RemotePolicy(cfg.model, connection),
        optimizer=optimizer,
        scheduler=get_scheduler(schedule.pop("name"), **schedule, max_steps=cfg.trainer.dapo.max_steps)(optimizer),
        logger=RemoteLogger(connection),
        ckpt_callback=RemoteCheckpoints(connection),
        run_timer=NoTimeLimit(),
        num_answers=cfg.model.dapo.num_rollouts_per_prompt,
    )
    trainer.load_state_dict({"step": order["step"], "consumed_samples": 0, "dapo_optimization_step": 0})
    for _ in range(order["step"]):
        trainer.scheduler.step()
    trainer.fit()
    connection.tell("finished", step=trainer.step)
