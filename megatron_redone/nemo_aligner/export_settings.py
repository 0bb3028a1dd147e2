"""The settings of a stage `dpo` as the configuration of NeMo-Aligner's `train_gpt_dpo.py`, for its own container.

Every key of the stage stands in one of three tables here, and a test holds them against the stage: it is written, it
says only how we run, or it is understood at one value and refused at others. What the trainer itself is told is in
`mapping.py`, which the backend shares.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from megatron_redone.checkpoint.config import CheckpointConfig
from megatron_redone.nemo_aligner.config import ContainerConfig, NemoAlignerConfig
from megatron_redone.nemo_aligner.mapping import leaves, to_nemo
from megatron_redone.parallel.config import ParallelConfig
from megatron_redone.training.config import DPOConfig

CONFIG, CHECKPOINT, TRAIN, VALIDATION = "gpt_dpo.yaml", "checkpoint", "data/train.jsonl", "data/validation.jsonl"
MINUTES_BEFORE_LIMIT = 10

WRITTEN = frozenset((
    "model", "pairs", "too_long", "prompt_texts", "loss", "label_smoothing", "beta", "gt_reward_scale",
    "preference_coefficient", "preference_logprobs", "sft.coefficient", "sft.normalisation", "global_batch_size",
    "max_length", "epochs", "steps", "optimizer.lr", "optimizer.min_lr_ratio", "optimizer.schedule",
    "optimizer.warmup_ratio", "optimizer.warmup_steps", "optimizer.beta1", "optimizer.beta2", "optimizer.epsilon",
    "optimizer.weight_decay", "optimizer.clip_grad", "parallel.tp", "parallel.pp", "parallel.cp",
    "parallel.sequence_parallel", "parallel.precision", "parallel.recompute", "checkpoint.every",
    "checkpoint.keep_last", "validation.every", "validation.pairs", "nemo_aligner.micro_batch_size",
))  # fmt: skip
"""Keys whose value stands in the data, the checkpoint or the configuration, or is refused by `mapping.problems`."""

HOW_WE_RUN = frozenset((
    "kind", "per_seed", "threads", "backend", "nemo_aligner.python", "watchdog_minutes", "reference_cache",
    "max_tokens_per_microbatch", "share_prompts", "checkpoint.in_background", "checkpoint.on_damage",
    "parallel.distributed_optimizer", "parallel.overlap", "parallel.moe_dispatcher", "parallel.recompute_modules",
    "parallel.gpu.layer_spec", "parallel.gpu.attention", "parallel.gpu.grouped_gemm", "parallel.gpu.fused_permute",
    "parallel.gpu.fused_dispatch", "parallel.gpu.fuse_gradient_accumulation", "parallel.gpu.tp_overlap_tokens",
    "parallel.gpu.overlap_p2p_warmup", "parallel.gpu.bucket_parameters", "parallel.gpu.pad_buckets",
    "parallel.gpu.cuda_graphs", "parallel.gpu.graph_tokens", "parallel.gpu.graph_warmup_steps",
    "parallel.gpu.optimizer.offload", "parallel.gpu.optimizer.overlap_offload",
))  # fmt: skip
"""Keys that change no number of a run of ours, or that ask for what its program decides by itself."""

ONLY_AT: dict[str, Any] = {
    "sft.group_pairs": None,
    "reference": None,
    "evaluate": None,
    "checkpoint.keep_every": None,
    "parallel.vpp": 1,
    "parallel.ep": 1,
    "parallel.etp": 1,
    "parallel.gpu.fp8": None,
    "parallel.gpu.optimizer.moments": "fp32",
    "parallel.gpu.optimizer.gradients": "fp32",
    "nemo_aligner.shuffle": True,
    "optimizer.router_aux_loss": None,
    "optimizer.router_z_loss": 0.0,
    "optimizer.guard.on_bad_step": "skip",
    "optimizer.guard.max_in_a_row": 5,
    "optimizer.guard.spike_factor": None,
    "optimizer.guard.spike_window": 50,
    "validation": None,
}
"""Keys that NeMo-Aligner has no word for, and the value that is let pass. Of the guard that is the default: it acts on
broken steps only, which its trainer does not look for."""


def unmapped(settings: Mapping[str, Any]) -> list[str]:
    """The settings of a stage that cannot be said in NeMo-Aligner's words; empty where all can.

    Args:
        settings: the whole stage, defaults filled in, as nested mappings.
    """
    found = []
    for name, value in leaves(settings):
        if name in WRITTEN or name in HOW_WE_RUN:
            continue
        known = next((key for key in ONLY_AT if name == key or name.startswith(f"{key}.")), None)
        if known is None:
            found.append(f"{name}={value!r}: no key of NeMo-Aligner's is known for it; leave it out")
        elif value != ONLY_AT[known]:
            found.append(
                f"{name}={value!r}: NeMo-Aligner's program has no such setting; leave it at {ONLY_AT[known]!r}, "
                "or train with `redone dpo`"
            )
    return found


def layout_problems(
    config: DPOConfig,
    settings: NemoAlignerConfig,
    parallel: ParallelConfig,
    checkpoint: CheckpointConfig,
    gpus: int,
) -> list[str]:
    """Why its trainer would stop at its start, on so many GPUs; empty when it would not."""
    found = parallel.problems(gpus)
    if parallel.precision not in ("fp32", "bf16"):
        found.append(f"parallel.precision={parallel.precision!r}: NeMo trains in fp32 or bf16; take one of them")
    if not found:
        pairs = settings.micro_batch_size * parallel.data_parallel_size(gpus)
        if config.global_batch_size % pairs:
            found.append(
                f"global_batch_size={config.global_batch_size} is not divisible by nemo_aligner.micro_batch_size * "
                f"replicas = {pairs} on {gpus} GPUs; change one of them"
            )
    if parallel.pp > 1 and parallel.precision != "bf16":
        found.append(f"parallel.pp={parallel.pp} in {parallel.precision}: NeMo-Aligner wants bf16 there; set it")
    if config.validation is not None and checkpoint.every % config.validation.every:
        found.append(
            f"checkpoint.every={checkpoint.every} is not a multiple of validation.every={config.validation.every}, "
            "which NeMo-Aligner asks for; change one of them"
        )
    return found


def configuration(
    config: DPOConfig,
    settings: NemoAlignerConfig,
    parallel: ParallelConfig,
    checkpoint: CheckpointConfig,
    container: ContainerConfig,
    seed: int,
    num_pairs: int,
    num_validation: int,
) -> dict[str, Any]:
    """The whole file `gpt_dpo.yaml`, with paths as they are inside the container.

    Raises:
        ConfigError: what its trainer cannot do (`mapping.problems`).
    """
    tree = to_nemo(config, settings, parallel, seed, num_pairs)
    trainer, model = tree["trainer"], tree["model"]
    validation_batches = 0
    if config.validation is not None:
        validation_batches = min(config.validation.pairs, num_validation) // config.global_batch_size
    trainer["dpo"] |= {
        "val_check_interval": config.validation_every if validation_batches else 0,
        "save_interval": checkpoint.every,
        "limit_val_batches": validation_batches,
    }
    trainer |= {
        "num_nodes": container.nodes,
        "devices": container.gpus_per_node,
        "accelerator": "gpu",
        "logger": False,
        "enable_checkpointing": False,
        "use_distributed_sampler": False,
        "max_time": None,
        "max_epochs": trainer["dpo"]["max_epochs"],
        "max_steps": trainer["dpo"]["max_steps"],
    }
    data = [f"{container.mount}/{VALIDATION if validation_batches else TRAIN}"]
    model["data"] |= {
        "data_impl": "jsonl",
        "splits_string": None,
        "skip_warmup": True,
        "reset_position_ids": False,
        "reset_attention_mask": False,
        "eod_mask_loss": False,
        "index_mapping_dir": None,
        "default_chosen_reward": 1.0,
        "default_rejected_reward": 0.0,
        "data_prefix": {"train": [f"{container.mount}/{TRAIN}"], "validation": data, "test": data},
    }
    model["dpo"]["log_prob_forward_micro_batch_size"] = settings.micro_batch_size
    model["optim"] |= {"name": "distributed_fused_adam", "bucket_cap_mb": 200, "overlap_grad_sync": False}
    model["optim"]["contiguous_grad_buffer"] = True
    model |= {
        "mcore_gpt": True,
        "megatron_amp_O2": parallel.precision == "bf16",
        "precision": trainer["precision"],
        "dist_ckpt_load_strictness": "log_all",  # Transformer Engine's own state is not in the checkpoint
        "peft": {"peft_scheme": "none", "restore_from_path": None},
    }
    return {
        "trainer": trainer,
        "exp_manager": _experiment(checkpoint, container, parallel),
        "pretrained_checkpoint": {"restore_from_path": f"{container.mount}/{CHECKPOINT}"},
        "model": model,
        "precision": trainer["precision"],
    }


def _experiment(checkpoint: CheckpointConfig, container: ContainerConfig, parallel: ParallelConfig) -> dict[str, Any]:
    """Checkpoints as ours: the newest `keep_last` stay, and the same command goes on from the last one."""
    return {
        "explicit_log_dir": f"{container.mount}/results",
        "exp_dir": None,
        "name": "redone_dpo",
        "max_time_per_run": time_per_run(container.time_limit),
        "create_wandb_logger": False,
        "create_tensorboard_logger": True,
        "resume_if_exists": True,
        "resume_ignore_no_checkpoint": True,
        "create_checkpoint_callback": True,
        "checkpoint_callback_params": {
            "monitor": "step",
            "mode": "max",
            "save_top_k": checkpoint.keep_last,
            "always_save_nemo": False,
            "save_nemo_on_train_end": True,
            "filename": "redone_dpo--{step}-{consumed_samples}-{epoch}",
            "model_parallel_size": parallel.model_parallel_size(),
        },
    }


def time_per_run(limit: str) -> str:
    """days:hours:minutes:seconds after which its trainer checkpoints and ends, for a limit as Slurm writes it.

    Slurm's forms: minutes, minutes:seconds, hours:minutes:seconds, days-hours, days-hours:minutes and so on.
    """
    days, _, rest = limit.rpartition("-")
    parts = [int(part) for part in rest.split(":")]
    if days:
        hours, minutes, seconds = [*parts, 0, 0][:3]
    elif len(parts) == 3:
        hours, minutes, seconds = parts
    else:
        hours, (minutes, seconds) = 0, [*parts, 0][:2]
    whole = ((int(days or 0) * 24 + hours) * 60 + minutes) * 60 + seconds
    kept = max(whole - MINUTES_BEFORE_LIMIT * 60, whole // 2)
    minutes, seconds = divmod(kept, 60)
    hours, minutes = divmod(minutes, 60)
    days_kept, hours = divmod(hours, 24)
    return f"{days_kept:02d}:{hours:02d}:{minutes:02d}:{seconds:02d}"
