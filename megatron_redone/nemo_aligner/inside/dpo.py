"""NeMo-Aligner's `DPOTrainer` at work: its loop, data set, batch sampler, scheduler and loss.

Runs in NeMo-Aligner's environment, see `start.py`. Three things are not its own, because those ask for CUDA: the
collate function (ours makes no dense attention mask, since the engine packs documents), the run timer, and the model
behind the interface.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from nemo.core.optim.lr_scheduler import get_scheduler
from nemo_aligner.algorithms.dpo import DPOTrainer
from nemo_aligner.data.nlp.builders import build_dataloader, identity_collate
from nemo_aligner.data.nlp.datasets import DPOModelDataset
from omegaconf import DictConfig, OmegaConf

from megatron_redone.nemo_aligner.inside.no_time_limit import NoTimeLimit
from megatron_redone.nemo_aligner.inside.one_process import one_process
from megatron_redone.nemo_aligner.inside.remote import (
    RemoteCheckpoints,
    RemoteLogger,
    RemoteModel,
    RemoteOptimizer,
    RemoteTokenizer,
)
from megatron_redone.nemo_aligner.inside.remote_connection import Connection


class NumberedPairs(DPOModelDataset):
    """NeMo-Aligner's data set, with the id of each pair beside its tokens."""

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {**super().__getitem__(index), "id": self.data[index].get("id", f"pair-{index}")}


def collate(batch: Sequence[Mapping[str, Any]], eos_id: int, pad_length_to_multiple_of: int) -> dict[str, Any]:
    """Pads the pairs of a global batch to one length; the keys of NeMo-Aligner's own collate function but the mask."""
    longest = max(len(item[side]) for item in batch for side in ("chosen", "rejected"))
    length = -(-longest // pad_length_to_multiple_of) * pad_length_to_multiple_of

    def padded(name: str, value: int) -> torch.Tensor:
        return torch.stack(
            [torch.nn.functional.pad(item[name], (0, length - len(item[name])), value=value) for item in batch]
        )

    tensors = {name: padded(name, eos_id) for name in ("chosen", "rejected")}
    tensors |= {name: padded(name, -100) for name in ("chosen_labels", "rejected_labels")}
    tensors |= {name: torch.tensor([item[name] for item in batch]) for name in ("chosen_length", "rejected_length")}
    for side in ("chosen", "rejected"):
        tensors[f"{side}_rewards"] = torch.tensor([float(item[f"{side}_reward"]) for item in batch])
    return {**tensors, "ids": [item["id"] for item in batch]}


def train(order: Mapping[str, Any], connection: Connection) -> None:
    """Lets the trainer run to its end.

    Args:
        order: `config` (NeMo-Aligner's), `pairs` (path), `eos_id`, `step` to go on from, and `shuffle`.
    """
    cfg = OmegaConf.create(order["config"])
    one_process()
    tokenizer = RemoteTokenizer(connection, order["eos_id"])
    pairs = _read(order["pairs"])
    data = NumberedPairs(
        cfg.model, tokenizer, "train", order["pairs"], np.arange(len(pairs)), pairs, cfg.model.data.seq_length, 0
    )
    loader = build_dataloader(
        cfg,
        data,
        order["step"] * cfg.model.global_batch_size,
        cfg.model.micro_batch_size,
        cfg.model.global_batch_size,
        collate_fn=identity_collate,
        use_random_sampler=order["shuffle"],
    )
    trainer = _trainer(cfg, connection, loader, tokenizer)
    trainer.step = order["step"]
    trainer.consumed_samples = order["step"] * cfg.model.global_batch_size
    trainer.set_max_steps()
    for _ in range(order["step"]):
        trainer.scheduler.step()
    trainer.fit()
    connection.tell("finished", step=trainer.step)


def _trainer(cfg: DictConfig, connection: Connection, loader: Any, tokenizer: RemoteTokenizer) -> DPOTrainer:
    """NeMo-Aligner's trainer around our proxies. There is no validation: evaluation is a stage's own."""
    optimizer = RemoteOptimizer(cfg.model.optim.lr, connection)
    trainer = DPOTrainer(
        cfg=cfg.trainer.dpo,
        model=RemoteModel(cfg.model, connection),
        optimizer=optimizer,
        scheduler=None,
        train_dataloader=loader,
        val_dataloader=[],
        test_dataloader=None,
        collate_fn=lambda batch, pad_length_to_multiple_of: collate(batch, tokenizer.eos_id, pad_length_to_multiple_of),
        logger=RemoteLogger(connection),
        ckpt_callback=RemoteCheckpoints(connection),
        run_timer=NoTimeLimit(),
        pad_length_to_multiple_of=cfg.model.data.pad_length_to_multiple_of,
    )
    schedule = dict(cfg.model.optim.sched)
    trainer.scheduler = get_scheduler(schedule.pop("name"), **schedule, max_steps=trainer.max_steps)(optimizer)
    return trainer


def _read(path: str) -> list[dict[str, Any]]:
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file if line.strip()]
