"""NeMo-Aligner's own trainer, data set and loss with our engine, against our own objective on the same batches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from megatron_redone.common.errors import TrainingError
from megatron_redone.nemo_aligner.config import NemoAlignerConfig
from megatron_redone.nemo_aligner.process import NemoAlignerProcess
from megatron_redone.nemo_aligner.service import EngineService
from megatron_redone.nemo_aligner.train import settings_of_file
from megatron_redone.objectives.dpo import DPO
from megatron_redone.parallel.context import ParallelContext
from megatron_redone.training.batches import pack
from tests.unit.nemo_aligner.pairs import END, PAIRS, MadePairs, engine_of

STEPS, BATCH, BETA, SFT = 20, 4, 0.1, 0.3


def config(**dpo: Any) -> dict[str, Any]:
    return {
        "trainer": {
            "dpo": {
                "max_epochs": 2,
                "max_steps": STEPS,
                "val_check_interval": 0,
                "save_interval": 0,
                "limit_train_batches": 1.0,
                "limit_val_batches": 0,
                "gradient_clip_val": 1.0,
            }
        },
        "model": {
            "micro_batch_size": 1,
            "global_batch_size": BATCH,
            "seed": 1,
            "dpo": {"ref_policy_kl_penalty": BETA, **dpo},
            "optim": {
                "lr": 1e-2,
                "sched": {"name": "CosineAnnealing", "warmup_steps": 4, "constant_steps": 0, "min_lr": 1e-4},
            },
            "data": {"seq_length": 64, "append_eod": True, "num_workers": 0, "pad_length_to_multiple_of": 1},
        },
    }


def test_twenty_steps_equal_our_objective(
    nemo_aligner_python: Path, parallel_context: ParallelContext, tmp_path: Path
) -> None:
    engine = engine_of(parallel_context)
    made = MadePairs(engine)
    order = {
        "config": config(sft_loss_weight=SFT),
        "pairs": str(made.write(tmp_path / "pairs.jsonl")),
        "eos_id": END,
        "step": 0,
        "shuffle": True,
    }
    seen = []
    with NemoAlignerProcess(nemo_aligner_python, tmp_path / "log.txt") as process:
        process.send("train_dpo", order)
        service = EngineService(engine, process, made.prepared, made.texts.__getitem__, 512)
        for _ in range(STEPS):
            metrics = service.until_update()
            seen.append((service.sample_ids, metrics))
    assert sorted(name for ids, _ in seen for name in ids) == sorted(made.prepared), "one epoch, each pair once"
    assert PAIRS == STEPS * BATCH

    native = engine_of(parallel_context)
    for ids, theirs in seen:
        documents = [d for name in ids for d in (made.prepared[name].chosen, made.prepared[name].rejected)]
        # Its SFT term is a mean over answers of sums over tokens, ours a mean over tokens.
        tokens = sum(sum(made.prepared[name].chosen.loss_mask) for name in ids)
        objective = DPO(beta=BETA, sft_coefficient=SFT * tokens / len(ids))
        batch = pack(documents, native, ("reference_logprobs",))
        ours = native.train_step([batch], objective, theirs["learning_rate"])
        assert theirs["loss"] == pytest.approx(ours["loss"], abs=1e-5)
        assert theirs["grad_norm"] == pytest.approx(ours["grad_norm"], rel=1e-4)
        assert theirs["acc"] == pytest.approx(ours["reward_accuracy"])


def test_a_loss_that_it_does_not_know_is_told(
    nemo_aligner_python: Path, parallel_context: ParallelContext, tmp_path: Path
) -> None:
    engine = engine_of(parallel_context)
    made = MadePairs(engine, 8)
    order = {
        "config": config(preference_loss="no_such_loss"),
        "pairs": str(made.write(tmp_path / "pairs.jsonl")),
        "eos_id": END,
        "step": 0,
        "shuffle": True,
    }
    with NemoAlignerProcess(nemo_aligner_python, tmp_path / "log.txt") as process:
        process.send("train_dpo", order)
        service = EngineService(engine, process, made.prepared, made.texts.__getitem__, 512)
        with pytest.raises(TrainingError, match=r"NotImplementedError: preference_loss no_such_loss"):
            service.until_update()


def test_its_yaml_is_read_with_its_references_resolved(nemo_aligner_python: Path, tmp_path: Path) -> None:
    path = tmp_path / "gpt_dpo.yaml"
    path.write_text(
        "trainer: {devices: 2, dpo: {max_steps: 9, gradient_clip_val: 0.5}}\n"
        "model:\n"
        "  micro_batch_size: 2\n"
        "  global_batch_size: ${multiply:${model.micro_batch_size}, 4}\n"
        "  dpo: {ref_policy_kl_penalty: 0.2, preference_average_log_probs: true,"
        " sft_average_log_probs: '${.preference_average_log_probs}'}\n",
        encoding="utf-8",
    )
    found = settings_of_file(path, NemoAlignerConfig(python=nemo_aligner_python), tmp_path / "log.txt")
    assert found["global_batch_size"] == 8 and found["steps"] == 9 and found["optimizer.clip_grad"] == 0.5
    assert found["preference_logprobs"] == "mean" and found["sft.normalisation"] == "pair_token_mean"
    path.write_text("model: {seed: '${nowhere}'}\n", encoding="utf-8")
    with pytest.raises(TrainingError, match=r"nowhere"):
        settings_of_file(path, NemoAlignerConfig(python=nemo_aligner_python), tmp_path / "log.txt")
