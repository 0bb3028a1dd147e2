"""The settings of a stage `dapo` in NeMo-Aligner's style, and the other way.

Its program has no DAPO; the extension keeps to the style of its files: `trainer.dapo` has what its trainers have there,
`model.optim` and `model.dapo` what its models have, with its words where it has them (`num_rollouts_per_prompt`,
`sampling_params`, `length_params`, `entropy_bonus`, `initial_policy_kl_penalty`). A setting that it has no word for
stands in `model.dapo` under our own name, so every one can be said.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from megatron_redone.common.errors import ConfigError
from megatron_redone.nemo_aligner.mapping import PRECISIONS, SCHEDULES, Key, inverse, leaves, only_file, without_effect
from megatron_redone.parallel.config import ParallelConfig
from megatron_redone.rl.config import DAPOConfig

SECTION = "model.dapo."

WORDS: dict[str, Key] = {
    "trainer.dapo.max_steps": Key("num_rollouts", int),
    "trainer.dapo.gradient_clip_val": Key("optimizer.clip_grad", float),
    "trainer.dapo.initial_policy_kl_penalty": Key("kl.coefficient", float),
    "model.dapo.num_rollouts_per_prompt": Key("responses_per_prompt", int),
    "model.dapo.ratio_eps_low": Key("clip_ratio_low", float),
    "model.dapo.ratio_eps_high": Key("clip_ratio_high", float),
    "model.dapo.entropy_bonus": Key("entropy_coefficient", float),
    "model.dapo.sampling_params.temperature": Key("generation.temperature", float),
    "model.dapo.sampling_params.top_p": Key("generation.top_p", float),
    "model.dapo.length_params.max_length": Key("generation.max_new_tokens", int),
    "model.optim.lr": Key("optimizer.lr", float),
    "model.optim.weight_decay": Key("optimizer.weight_decay", float),
    "model.optim.eps": Key("optimizer.epsilon", float),
    "model.optim.sched.name": Key("optimizer.schedule", inverse(SCHEDULES)),
}
"""Settings of the loop."""
RUN_WORDS: dict[str, Key] = {
    "model.seed": Key("seed", int),
    "model.tensor_model_parallel_size": Key("parallel.tp", int),
    "model.pipeline_model_parallel_size": Key("parallel.pp", int),
    "model.context_parallel_size": Key("parallel.cp", int),
    "model.sequence_parallel": Key("parallel.sequence_parallel", bool),
    "model.data.data_prefix.train": Key("rows", only_file),
    "trainer.precision": Key("parallel.precision", lambda value: "bf16" if "bf16" in str(value) else "fp32"),
}
"""Settings of the stage around it."""
COMBINED = (
    "model.global_batch_size", "model.optim.betas", "model.optim.sched.min_lr", "model.optim.sched.warmup_steps",
)  # fmt: skip
SAID_OTHERWISE = (
    "minibatch_prompts", "warmup_rollouts", "optimizer.beta1", "optimizer.beta2", "optimizer.min_lr_ratio",
    "optimizer.warmup_ratio", "optimizer.warmup_steps",
)  # fmt: skip
"""Our keys that `COMBINED` ones say; of the warm-up the stage reads `warmup_rollouts` alone."""
WITHOUT_EFFECT = ("trainer.dapo.val_check_interval", "trainer.dapo.save_interval", "trainer.dapo.limit_val_batches")
ONLY_AT: dict[str, tuple[Any, ...]] = {
    "trainer.dapo.max_epochs": (1, None),
    "model.dapo.sampling_params.use_greedy": (False,),
    "model.dapo.sampling_params.top_k": (0,),
    "model.dapo.sampling_params.repetition_penalty": (1.0,),
    "model.dapo.length_params.min_length": (0, 1),
    "model.optim.sched.constant_steps": (0, None),
    "model.micro_batch_size": (1, None),
}


def to_nemo(config: DAPOConfig, parallel: ParallelConfig, seed: int) -> dict[str, Any]:
    """The configuration in NeMo-Aligner's style that says what ours does."""
    ours = dict(leaves(config.model_dump(mode="json")))
    tree: dict[str, Any] = {}
    for name, key in WORDS.items():
        value = ours.pop(key.ours)
        _put(tree, name, SCHEDULES[value] if name == "model.optim.sched.name" else value)
    optimizer = config.optimizer
    combined = {
        "model.global_batch_size": config.minibatch_prompts * config.responses_per_prompt,
        "model.optim.betas": [optimizer.beta1, optimizer.beta2],
        "model.optim.sched.min_lr": optimizer.lr * optimizer.min_lr_ratio,
        # Its warm-up of w steps rises by 1 / (w + 1), ours of w rollouts by 1 / w.
        "model.optim.sched.warmup_steps": max(0, config.warmup_rollouts - 1),
        "model.seed": seed,
        "model.tensor_model_parallel_size": parallel.tp,
        "model.pipeline_model_parallel_size": parallel.pp,
        "model.context_parallel_size": parallel.cp,
        "model.sequence_parallel": bool(parallel.sequence_parallel),
        "trainer.precision": PRECISIONS.get(parallel.precision, parallel.precision),
        "trainer.dapo.save_interval": 0,
    }
    if optimizer.schedule == "cosine":
        combined["model.optim.sched.constant_steps"] = 0
    for name, value in combined.items():
        _put(tree, name, value)
    for name, value in ours.items():
        if name not in SAID_OTHERWISE:
            _put(tree, SECTION + name, value)
    return tree


def from_nemo(tree: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Our settings, as `dotted.key: value`, that a configuration in NeMo-Aligner's style asks for.

    Args:
        tree: its YAML with every `${...}` resolved.
        path: where it stood, for messages.
    Raises:
        ConfigError: every key that is neither mapped nor known to change nothing, all at once.
    """
    flat = dict(leaves(tree))
    found: list[str] = []
    ours: dict[str, Any] = {}
    known = WORDS | RUN_WORDS
    for name, value in flat.items():
        own = name.removeprefix(SECTION)
        if name in known:
            try:
                ours[known[name].ours] = known[name].read(value)
            except (ValueError, TypeError) as error:
                found.append(f"{path}: {name}={value!r}: {error}")
        elif name in ONLY_AT:
            if value not in ONLY_AT[name]:
                found.append(f"{path}: {name}={value!r}: only {ONLY_AT[name][0]!r} is understood here")
        elif own != name and own not in SAID_OTHERWISE and _is_setting(DAPOConfig, own.split(".")):
            ours[own] = value
        elif name not in COMBINED and name not in WITHOUT_EFFECT and not without_effect(name):
            found.append(f"{path}: {name}={value!r}: no such key is known here; leave it out")
    combined, problems = _combined(flat, ours, path)
    if found or problems:
        raise ConfigError(found + problems)
    return ours | combined


def _combined(flat: Mapping[str, Any], ours: Mapping[str, Any], path: Path) -> tuple[dict[str, Any], list[str]]:
    """What several keys say together, and what is wrong with it."""
    result: dict[str, Any] = {}
    if "model.global_batch_size" in flat:
        size = int(flat["model.global_batch_size"])
        responses = ours.get("responses_per_prompt", DAPOConfig.model_fields["responses_per_prompt"].default)
        if size % responses:
            told = "a mini-batch takes whole groups"
            return {}, [f"{path}: model.global_batch_size={size} is not divisible by {responses} answers; {told}"]
        result["minibatch_prompts"] = size // responses
    if "model.optim.betas" in flat:
        result["optimizer.beta1"], result["optimizer.beta2"] = map(float, flat["model.optim.betas"])
    if "model.optim.sched.min_lr" in flat and ours.get("optimizer.lr"):
        result["optimizer.min_lr_ratio"] = float(flat["model.optim.sched.min_lr"]) / ours["optimizer.lr"]
    if "model.optim.sched.warmup_steps" in flat:
        steps = int(flat["model.optim.sched.warmup_steps"])
        result["warmup_rollouts"] = steps + 1 if steps else 0
    return result, []


def _put(tree: dict[str, Any], name: str, value: Any) -> None:
    *sections, last = name.split(".")
    for section in sections:
        tree = tree.setdefault(section, {})
    tree[last] = value


def _is_setting(model: type[BaseModel], path: list[str]) -> bool:
    """Whether the path names a setting of the model or of a section in it."""
    field = model.model_fields.get(path[0])
    if field is None or len(path) == 1:
        return field is not None
    kind = field.annotation
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return _is_setting(kind, path[1:])
    return isinstance(field.get_default(call_default_factory=True), dict) and len(path) == 2
