"""Settings go to NeMo-Aligner's keys and come back; what one side has no word for is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from megatron_redone.common.errors import ConfigError
from megatron_redone.nemo_aligner.config import NemoAlignerConfig
from megatron_redone.nemo_aligner.mapping import from_nemo, problems, steps_and_epochs, to_nemo
from megatron_redone.parallel.config import ParallelConfig
from megatron_redone.training.config import ChosenSFTConfig, DPOConfig, OptimizerConfig

FILE = Path("gpt_dpo.yaml")


def settings(**changes: Any) -> DPOConfig:
    given = {"sft": ChosenSFTConfig(normalisation="pair_sum"), "steps": 30, **changes}
    return DPOConfig(**given)


@pytest.mark.parametrize(
    "config",
    [
        settings(),
        settings(loss="ipo", beta=0.3, preference_logprobs="mean", preference_coefficient=0.5),
        settings(
            loss="rpo_bwd_kl",
            gt_reward_scale=2.0,
            sft=ChosenSFTConfig(coefficient=0.1, normalisation="pair_token_mean"),
            global_batch_size=8,
            max_length=512,
            optimizer=OptimizerConfig(lr=3e-6, schedule="linear", min_lr_ratio=0.1, warmup_steps=5, clip_grad=0.5),
        ),
        settings(optimizer=OptimizerConfig(lr=1e-5, schedule="constant", warmup_steps=0, beta2=0.98)),
    ],
)
def test_there_and_back(config: DPOConfig) -> None:
    parallel = ParallelConfig(tp=2, precision="bf16")
    tree = to_nemo(config, NemoAlignerConfig(), parallel, 7, num_pairs=640)
    found = from_nemo(tree, FILE)
    assert (found["parallel.tp"], found["parallel.precision"], found["seed"], found["steps"]) == (2, "bf16", 7, 30)
    wanted = config.model_dump()
    for name, value in found.items():
        section, _, key = name.partition(".")
        if section in ("parallel", "seed", "nemo_aligner", "steps", "epochs"):
            continue
        expected = wanted[section][key] if key else wanted[section]
        if name == "optimizer.warmup_steps" and expected is None:
            expected = round(config.optimizer.warmup_ratio * 30)
        assert value == pytest.approx(expected) if isinstance(expected, float) else value == expected, name


@pytest.mark.parametrize(
    ("config", "told"),
    [
        (settings(loss="hinge"), "loss='hinge'"),
        (settings(label_smoothing=0.1), "label_smoothing=0.1"),
        (settings(sft=ChosenSFTConfig()), "sft.normalisation='token_mean'"),
    ],
)
def test_what_it_cannot_do_is_refused(config: DPOConfig, told: str) -> None:
    assert [told in problem for problem in problems(config)] == [True]
    with pytest.raises(ConfigError, match=told):
        to_nemo(config, NemoAlignerConfig(), ParallelConfig(), 0, 640)


def test_every_unknown_key_is_told_at_once() -> None:
    tree = {
        "model": {"dpo": {"preference_loss": "kto", "surprise": 1}, "data": {"reset_position_ids": True}},
        "trainer": {"devices": 8, "dpo": {"max_steps": 5}},
        "exp_manager": {"anything": True},
    }
    with pytest.raises(ConfigError) as caught:
        from_nemo(tree, FILE)
    for part in (
        "model.dpo.preference_loss='kto': one of dpo, ipo, rpo_sq, rpo_bwd_kl, rpo_fwd_kl is known here",
        "model.dpo.surprise=1: no such key is known here",
        "model.data.reset_position_ids=True: only False is understood here",
    ):
        assert part in str(caught.value)
    assert "devices" not in str(caught.value) and "exp_manager" not in str(caught.value)


def test_an_epoch_drops_what_fills_no_batch() -> None:
    assert steps_and_epochs(settings(steps=None, epochs=2.0, global_batch_size=10), 35) == (6, 2)
    assert steps_and_epochs(settings(steps=7, global_batch_size=10), 35) == (7, 3)
    with pytest.raises(ConfigError, match=r"8 pairs do not fill one batch"):
        steps_and_epochs(settings(global_batch_size=10), 8)
