"""Our settings as NeMo-Aligner's YAML keys, and the other way.

Every key of ours that its trainer has no word for is refused where it is not at a value that means the same there;
every key of a file of NeMo-Aligner's that is neither mapped nor known to change nothing here is refused, too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from megatron_redone.common.errors import ConfigError
from megatron_redone.nemo_aligner.config import NemoAlignerConfig
from megatron_redone.parallel.config import ParallelConfig
from megatron_redone.training.config import DPOConfig, OptimizerConfig

LOSSES = {"sigmoid": "dpo", "ipo": "ipo", "rpo_sq": "rpo_sq", "rpo_bwd_kl": "rpo_bwd_kl", "rpo_fwd_kl": "rpo_fwd_kl"}
SCHEDULES = {"cosine": "CosineAnnealing", "linear": "PolynomialDecayAnnealing", "constant": "WarmupPolicy"}
SFT_AVERAGES = {"pair_sum": False, "pair_token_mean": True}
PRECISIONS = {"fp32": "32", "bf16": "bf16"}


def problems(config: DPOConfig) -> list[str]:
    """What of our settings NeMo-Aligner's trainer cannot do; empty where it can do all."""
    return list(_problems(config))


def _problems(config: DPOConfig) -> Iterator[str]:
    known = ", ".join(LOSSES)
    if config.loss not in LOSSES:
        yield f"loss={config.loss!r}: NeMo-Aligner has {known}; take one of them or backend=native"
    if config.label_smoothing:
        yield f"label_smoothing={config.label_smoothing}: NeMo-Aligner has none; leave it out or take backend=native"
    if config.sft.coefficient and config.sft.normalisation not in SFT_AVERAGES:
        yield (
            f"sft.normalisation={config.sft.normalisation!r}: NeMo-Aligner takes means over pairs; set "
            f"{' or '.join(SFT_AVERAGES)}, or take backend=native"
        )


def steps_and_epochs(config: DPOConfig, num_pairs: int) -> tuple[int, int]:
    """Optimizer steps and the epochs that hold them, as its trainer counts: an epoch drops what fills no batch.

    Raises:
        ConfigError: there are fewer pairs than a global batch takes.
    """
    per_epoch = num_pairs // config.global_batch_size
    if not per_epoch:
        raise ConfigError(
            [
                f"global_batch_size={config.global_batch_size}: {num_pairs} pairs do not fill one batch, and "
                "NeMo-Aligner's sampler drops what does not; lower it"
            ]
        )
    steps = config.steps if config.steps is not None else max(1, round((config.epochs or 0) * per_epoch))
    return steps, math.ceil(steps / per_epoch)


def to_nemo(
    config: DPOConfig, settings: NemoAlignerConfig, parallel: ParallelConfig, seed: int, num_pairs: int
) -> dict[str, Any]:
    """The configuration of its `train_gpt_dpo.py` that says what ours does.

    Raises:
        ConfigError: all that its trainer cannot do.
    """
    found = problems(config)
    if found:
        raise ConfigError(found)
    steps, epochs = steps_and_epochs(config, num_pairs)
    return {
        "trainer": {
            "precision": PRECISIONS.get(parallel.precision, parallel.precision),
            "dpo": {
                "max_epochs": epochs,
                "max_steps": steps,
                "val_check_interval": 0,
                "save_interval": 0,
                "limit_train_batches": 1.0,
                "limit_val_batches": 0,
                "gradient_clip_val": config.optimizer.clip_grad,
            },
        },
        "model": {
            "micro_batch_size": settings.micro_batch_size,
            "global_batch_size": config.global_batch_size,
            "seed": seed,
            "tensor_model_parallel_size": parallel.tp,
            "pipeline_model_parallel_size": parallel.pp,
            "context_parallel_size": parallel.cp,
            "sequence_parallel": bool(parallel.sequence_parallel),
            "dpo": {
                "preference_loss": LOSSES[config.loss],
                "ref_policy_kl_penalty": config.beta,
                "preference_average_log_probs": config.preference_logprobs == "mean",
                "sft_average_log_probs": SFT_AVERAGES.get(config.sft.normalisation, False),
                "gt_reward_scale": 1.0 if config.gt_reward_scale is None else config.gt_reward_scale,
                "preference_loss_weight": config.preference_coefficient,
                "sft_loss_weight": config.sft.coefficient,
            },
            "optim": {
                "lr": config.optimizer.lr,
                "weight_decay": config.optimizer.weight_decay,
                "betas": [config.optimizer.beta1, config.optimizer.beta2],
                "eps": config.optimizer.epsilon,
                "sched": schedule_of(config.optimizer, steps),
            },
            "data": {
                "seq_length": config.max_length,
                "append_eod": True,
                "num_workers": 0,
                "pad_length_to_multiple_of": 1,
            },
        },
    }


def schedule_of(optimizer: OptimizerConfig, num_steps: int) -> dict[str, Any]:
    """The section `optim.sched`. Its warm-up ends one step later than ours: step s of w gives (s + 1) / (w + 1)."""
    warmup = optimizer.warmup_steps
    steps = round(optimizer.warmup_ratio * num_steps) if warmup is None else warmup
    sched = {
        "name": SCHEDULES[optimizer.schedule],
        "warmup_steps": steps,
        "min_lr": optimizer.lr * optimizer.min_lr_ratio,
    }
    return sched | ({"constant_steps": 0} if optimizer.schedule == "cosine" else {})


@dataclass(frozen=True)
class Key:
    """What a key of NeMo-Aligner's is called here, and how its value is read."""

    ours: str
    read: Callable[[Any], Any] = lambda value: value


def inverse(table: Mapping[str, Any]) -> Callable[[Any], Any]:
    """Reads their name of a table as ours."""
    names = {value: name for name, value in table.items()}

    def read(value: Any) -> Any:
        if value not in names:
            raise ValueError(f"one of {', '.join(map(str, names))} is known here")
        return names[value]

    return read


def only_file(value: Any) -> str:
    """The one file of a list of files."""
    files = [value] if isinstance(value, str) else list(value)
    if len(files) != 1:
        raise ValueError(f"{len(files)} files; join them into one")
    return str(files[0])


KEYS: dict[str, Key] = {
    "model.dpo.preference_loss": Key("loss", inverse(LOSSES)),
    "model.dpo.ref_policy_kl_penalty": Key("beta", float),
    "model.dpo.preference_average_log_probs": Key("preference_logprobs", lambda value: "mean" if value else "sum"),
    "model.dpo.sft_average_log_probs": Key("sft.normalisation", inverse(SFT_AVERAGES)),
    "model.dpo.preference_loss_weight": Key("preference_coefficient", float),
    "model.dpo.sft_loss_weight": Key("sft.coefficient", float),
    "model.dpo.gt_reward_scale": Key("gt_reward_scale", float),
    "model.global_batch_size": Key("global_batch_size", int),
    "model.micro_batch_size": Key("nemo_aligner.micro_batch_size", int),
    "model.seed": Key("seed", int),
    "model.tensor_model_parallel_size": Key("parallel.tp", int),
    "model.pipeline_model_parallel_size": Key("parallel.pp", int),
    "model.context_parallel_size": Key("parallel.cp", int),
    "model.sequence_parallel": Key("parallel.sequence_parallel", bool),
    "model.optim.lr": Key("optimizer.lr", float),
    "model.optim.weight_decay": Key("optimizer.weight_decay", float),
    "model.optim.eps": Key("optimizer.epsilon", float),
    "model.optim.sched.name": Key("optimizer.schedule", inverse(SCHEDULES)),
    "model.optim.sched.warmup_steps": Key("optimizer.warmup_steps", int),
    "model.data.seq_length": Key("max_length", int),
    "model.data.data_prefix.train": Key("pairs", only_file),
    "trainer.dpo.gradient_clip_val": Key("optimizer.clip_grad", float),
    "trainer.dpo.max_epochs": Key("epochs", float),
    "trainer.precision": Key("parallel.precision", lambda value: "bf16" if "bf16" in str(value) else "fp32"),
}
COMBINED = ("model.optim.betas", "model.optim.sched.min_lr", "trainer.dpo.max_steps")
"""Keys that are read together with others."""
WITHOUT_EFFECT = (
    "trainer.num_nodes", "trainer.devices", "trainer.accelerator", "trainer.logger", "trainer.enable_checkpointing",
    "trainer.use_distributed_sampler", "trainer.max_time", "trainer.max_epochs", "trainer.max_steps",
    "trainer.dpo.val_check_interval", "trainer.dpo.save_interval", "trainer.dpo.limit_val_batches",
    "exp_manager", "pretrained_checkpoint", "precision", "defaults", "model.mcore_gpt", "model.megatron_amp_O2",
    "model.encoder_seq_length", "model.max_position_embeddings", "model.precision", "model.optim.name",
    "model.optim.bucket_cap_mb", "model.optim.overlap_grad_sync", "model.optim.contiguous_grad_buffer",
    "model.dpo.log_prob_forward_micro_batch_size", "model.data.data_impl", "model.data.splits_string",
    "model.data.skip_warmup", "model.data.data_prefix.validation", "model.data.data_prefix.test",
    "model.data.num_workers", "model.data.index_mapping_dir",
    "model.data.pad_length_to_multiple_of", "model.data.append_eod", "model.overwrite_base_config",
    "model.dist_ckpt_load_strictness",
)  # fmt: skip
"""Keys, and sections, of its published configuration that say how its own program runs and change no number here."""
ONLY_AT: dict[str, tuple[Any, ...]] = {
    "model.optim.sched.constant_steps": (0, None),
    "model.data.reset_position_ids": (False,),
    "model.data.reset_attention_mask": (False,),
    "model.data.eod_mask_loss": (False,),
    "model.data.default_chosen_reward": (1.0,),
    "model.data.default_rejected_reward": (0.0,),
    "model.data.apply_ftfy": (False,),
    "model.peft.peft_scheme": ("none", None),
    "trainer.dpo.limit_train_batches": (1.0, None),
}
"""Keys that are understood at these values only."""


def from_nemo(tree: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Our settings, as `dotted.key: value`, that a configuration of NeMo-Aligner's asks for.

    Args:
        tree: its YAML with every `${...}` resolved (`inside/configuration.py` does it).
        path: where it stood, for messages.

    Raises:
        ConfigError: every key that is unknown, or has a value that means nothing here.
    """
    flat = {name: value for name, value in leaves(tree) if value is not None or name in ONLY_AT}
    found: list[str] = []
    ours: dict[str, Any] = {}
    for name, value in flat.items():
        if name in KEYS:
            try:
                ours[KEYS[name].ours] = KEYS[name].read(value)
            except (ValueError, TypeError) as error:
                found.append(f"{path}: {name}={value!r}: {error}")
        elif name in ONLY_AT:
            if value not in ONLY_AT[name]:
                found.append(f"{path}: {name}={value!r}: only {ONLY_AT[name][0]!r} is understood here")
        elif name not in COMBINED and not without_effect(name):
            found.append(f"{path}: {name}={value!r}: no such key is known here; leave it out")
    if found:
        raise ConfigError(found)
    return ours | _combined(flat, ours)


def _combined(flat: Mapping[str, Any], ours: Mapping[str, Any]) -> dict[str, Any]:
    """What several keys say together. Without an SFT term its normalisation says nothing; steps go before epochs."""
    result: dict[str, Any] = {}
    if "model.optim.betas" in flat:
        result["optimizer.beta1"], result["optimizer.beta2"] = map(float, flat["model.optim.betas"])
    if "model.optim.sched.min_lr" in flat and ours.get("optimizer.lr"):
        result["optimizer.min_lr_ratio"] = float(flat["model.optim.sched.min_lr"]) / ours["optimizer.lr"]
    steps = flat.get("trainer.dpo.max_steps", -1)
    if steps is not None and int(steps) >= 0:
        result |= {"steps": int(steps), "epochs": None}
    if not str(ours.get("loss", "")).startswith("rpo"):
        result["gt_reward_scale"] = None
    return result


def without_effect(name: str) -> bool:
    """Whether a key of its files says only how its own program runs."""
    return any(name == known or name.startswith(known + ".") for known in WITHOUT_EFFECT) or name.startswith(
        ("model.peft.lora_tuning.", "model.peft.restore_from_")
    )


def leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted key, value) of every value that is no section."""
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
