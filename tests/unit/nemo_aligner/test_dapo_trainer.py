"""The `DAPOTrainer` in NeMo-Aligner's environment against the native loop: the same weights, rows and seed."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from megatron_redone.common.errors import Interrupted, TrainingError
from megatron_redone.nemo_aligner import dapo_train
from megatron_redone.nemo_aligner.config import NemoEnvironmentConfig
from megatron_redone.nemo_aligner.dapo_mapping import from_nemo
from megatron_redone.nemo_aligner.dapo_train import NemoAlignerUpdate
from megatron_redone.nemo_aligner.train import settings_of_file
from megatron_redone.parallel.context import ParallelContext
from megatron_redone.rl.dapo import dapo
from megatron_redone.training import stop
from tests.scripted_generation import sums_template
from tests.unit.rl.test_rollout_schedule import ROWS, Trained, settings

STEPS = 10


@pytest.fixture(autouse=True)
def no_stop() -> Iterator[None]:
    yield
    stop._signal = 0


class Driven(Trained):
    """The same run, driven by the trainer in the other environment."""

    python: Path

    def train(self, rows: Any = ROWS) -> Driven:
        settings = NemoEnvironmentConfig(python=self.python)
        with NemoAlignerUpdate(self.config, settings, self.engine, self.folder, self.run.seed) as update:
            dapo(self.config, rows, self.template, self.engine, self.generator, self.run, update=update)
        return self


def config() -> Any:
    """Long enough for some answers to end, so that the rewards of a group differ by the overlong penalty."""
    return settings(
        num_rollouts=STEPS,
        warmup_rollouts=3,
        overlong={"buffer_tokens": 38, "factor": 0.5},
        generation={"engine": "vllm", "max_new_tokens": 40, "max_prompt_tokens": 200},
        max_tokens_per_microbatch=600,
        entropy_coefficient=0.01,
    )


def test_ten_steps_equal_the_native_loop(
    nemo_aligner_python: Path, parallel_context: ParallelContext, tmp_path: Path
) -> None:
    Driven.python, template = nemo_aligner_python, sums_template(tmp_path)
    native = Trained(tmp_path / "native", template, parallel_context, config()).train().metrics
    driven = Driven(tmp_path / "driven", template, parallel_context, config()).train().metrics
    assert len(native) == len(driven) == STEPS
    for ours, theirs in zip(native, driven, strict=True):
        assert theirs == pytest.approx(ours, abs=1e-5)
    assert [row["learning_rate"] for row in driven[:4]] == pytest.approx([1e-3 / 3, 2e-3 / 3, 1e-3, 1e-3])
    assert all(row["updates"] == 2.0 and row["grad_norm"] > 0 for row in driven)
    assert len({row["loss"] for row in driven}) == STEPS and len({row["reward"] for row in driven}) > 5


@pytest.mark.slow
def test_a_stopped_run_goes_on_as_if_nothing_had_been(
    nemo_aligner_python: Path, parallel_context: ParallelContext, tmp_path: Path
) -> None:
    Driven.python, template = nemo_aligner_python, sums_template(tmp_path)
    whole = Trained(tmp_path / "whole", template, parallel_context, config()).train().metrics
    broken = Driven(tmp_path / "broken", template, parallel_context, config())
    generate = broken.generator.generate

    def stop_in_rollout_four(*arguments: Any) -> Any:
        if broken.generator.inner.version == 4:
            stop._signal = signal.SIGUSR1
        return generate(*arguments)

    broken.generator.generate = stop_in_rollout_four  # type: ignore[method-assign]
    with pytest.raises(Interrupted):
        broken.train()
    stop._signal = 0
    again = Driven(tmp_path / "broken", template, parallel_context, config()).train().metrics
    for ours, theirs in zip(whole, again, strict=True):
        assert theirs == pytest.approx(ours, abs=1e-5)


@pytest.mark.slow
def test_a_trainer_at_another_step_ends_the_run(
    nemo_aligner_python: Path, parallel_context: ParallelContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Driven.python, template = nemo_aligner_python, sums_template(tmp_path)
    right = dapo_train.NemoAlignerUpdate._start
    monkeypatch.setattr(dapo_train.NemoAlignerUpdate, "_start", lambda self, rollout: right(self, rollout + 1))
    with pytest.raises(TrainingError, match=r"the DAPO trainer asked for rollout 1, but 0 is due"):
        Driven(tmp_path / "driven", template, parallel_context, config()).train()


def test_yaml_in_its_style_is_read_with_its_references_resolved(nemo_aligner_python: Path, tmp_path: Path) -> None:
    path = tmp_path / "gpt_dapo.yaml"
    path.write_text(
        "trainer: {devices: 2, dapo: {max_steps: 9, gradient_clip_val: 0.5}}\n"
        "model:\n"
        "  global_batch_size: ${multiply:${model.dapo.num_rollouts_per_prompt}, 4}\n"
        "  dapo: {num_rollouts_per_prompt: 2, prompts_per_rollout: 8, overlong: {buffer_tokens: 1}}\n",
        encoding="utf-8",
    )
    environment = NemoEnvironmentConfig(python=nemo_aligner_python)
    assert settings_of_file(path, environment, tmp_path / "log.txt", from_nemo) == {
        "num_rollouts": 9, "optimizer.clip_grad": 0.5, "responses_per_prompt": 2, "prompts_per_rollout": 8,
        "overlong.buffer_tokens": 1, "minibatch_prompts": 4,
    }  # fmt: skip
