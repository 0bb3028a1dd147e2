"""Reinforcement learning with a `DAPOTrainer` in NeMo-Aligner's shape: the second backend of the stage `dapo`.

The trainer (`inside/dapo_trainer.py`) runs in NeMo-Aligner's environment with its helpers and NeMo's schedules: it says
when a rollout is made, what its mini-batches are, at which rate each update goes, and when the weights are handed on.
Rollouts, rewards, advantages, the loss and its gradients are those of our loop (`rl/dapo.py`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np

from megatron_redone.common.errors import TrainingError
from megatron_redone.data.batch import PackedBatch
from megatron_redone.data.document import Document
from megatron_redone.nemo_aligner.config import NemoEnvironmentConfig
from megatron_redone.nemo_aligner.conversation import Conversation
from megatron_redone.nemo_aligner.dapo_mapping import to_nemo
from megatron_redone.nemo_aligner.process import NemoAlignerProcess
from megatron_redone.nemo_aligner.wire import Array, Message
from megatron_redone.rl.config import DAPOConfig
from megatron_redone.rl.dapo import objective_of
from megatron_redone.rl.rollout import Group
from megatron_redone.training.batches import balanced_microbatches
from megatron_redone.training.engine import MegatronEngine

LOG_FILE = "nemo_aligner.log"


class NemoAlignerUpdate:
    """The updates of a rollout as the trainer asks for them (`rl.dapo.Update`). Use it in a `with` block.

    Args:
        folder: where the trainer's log goes.
        seed: of the stage.
    """

    def __init__(
        self, config: DAPOConfig, settings: NemoEnvironmentConfig, engine: MegatronEngine, folder: Path, seed: int
    ) -> None:
        self.config, self.settings, self.engine = config, settings, engine
        self.folder, self.seed = folder, seed
        self.objective = objective_of(config)
        self._stack = contextlib.ExitStack()
        self._talk: Conversation | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)

    def __call__(
        self, rollout: int, groups: Sequence[Group], documents: Sequence[Sequence[Document]]
    ) -> list[dict[str, float]]:
        """Answers until the trainer is done with the rollout.

        Raises:
            TrainingError: it failed, or asked for what is not due.
        """
        if self._talk is None:
            self._talk = self._start(rollout)
        updates: list[dict[str, float]] = []
        batches: list[PackedBatch] = []
        metrics: dict[str, float] = {}
        while (message := self._talk.next()).kind != "finish_training":
            if message.kind == "rollout":
                self._check_step(message, rollout)
                ids = [group.row.id for group in groups]
                self._talk.reply("rollout", {"ids": ids}, rollout_arrays(groups, documents))
            elif message.kind == "accumulate":
                places = message.values["groups"]
                minibatch = [document for place in places for document in documents[place]]
                limit, shared = self.config.max_tokens_per_microbatch, self.config.share_prompts
                batches, _ = balanced_microbatches(minibatch, limit, self.engine, self.config.signals, shared)
                metrics = self.engine.accumulate_gradients(batches, self.objective)
                self._talk.reply("metrics", {"metrics": metrics})
            elif message.kind == "update":
                rate = float(message.values["learning_rate"])
                updates.append({**self.engine.step_or_skip(metrics, batches, rate), "learning_rate": rate})
                self._talk.reply("updated")
            elif message.kind not in ("metrics", "saved"):
                raise TrainingError(
                    f"the DAPO trainer sent {message.kind!r} in rollout {rollout}, which is not due there"
                )
        self._talk.reply("finished_training")
        return updates

    def _start(self, rollout: int) -> Conversation:
        process = None
        if self.engine.context.is_main:
            process = self._stack.enter_context(NemoAlignerProcess(self.settings.python, self.folder / LOG_FILE))
            order = {"config": to_nemo(self.config, self.engine.context.config, self.seed), "step": rollout}
            process.send("train_dapo", order)
        return Conversation(self.engine.context, process)

    @staticmethod
    def _check_step(message: Message, rollout: int) -> None:
        asked = int(message.values["step"])
        if asked != rollout:
            raise TrainingError(f"the DAPO trainer asked for rollout {asked}, but {rollout} is due")


def rollout_arrays(groups: Sequence[Group], documents: Sequence[Sequence[Document]]) -> Mapping[str, Array]:
    """What the trainer is told of a rollout.

    Rewards, scores, advantages and lengths in tokens [groups, answers]; `learnt` [groups], answers that stay in the
    loss.
    """
    responses = [group.responses for group in groups]
    return {
        "rewards": np.asarray([[one.reward for one in some] for some in responses], dtype=np.float64),
        "scores": np.asarray([[one.score for one in some] for some in responses], dtype=np.float64),
        "advantages": np.asarray([[one.advantage for one in some] for some in responses], dtype=np.float64),
        "response_lengths": np.asarray([[len(one.completion.token_ids) for one in some] for some in responses]),
        "learnt": np.asarray([len(some) for some in documents]),
    }
