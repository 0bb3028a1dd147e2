"""TRL's own losses on given logits, for tools/compare_losses.py; runs in the environment of requirements/trl.lock.

    TRL_ENVIRONMENT/bin/python tools/trl_losses.py INPUTS.npz OUT.npz

Imports nothing of this project. The loss methods of TRL's trainers run as they are; in place of a model stands one that
has the given logits, and in place of the trainer an object with the settings that the method reads. Without options
of the command line: a file of arrays comes in, one of losses and of gradients with respect to the logits goes out.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

ACCELERATOR = SimpleNamespace(
    device="cpu",
    num_processes=1,
    sync_gradients=True,
    gather=lambda value: value,
    gather_for_metrics=lambda value: value,
    reduce=lambda value, reduction: value,
)


def logprobs_of(logits: Any, ids: Any) -> Any:
    """[B, L - 1]: the log-probability of each token but the first."""
    return logits[:, :-1].log_softmax(-1).gather(-1, ids[:, 1:, None]).squeeze(-1)


def dpo_loss(logits: Any, given: Any, case: dict[str, Any]) -> Any:
    """The loss of DPOTrainer over a batch of chosen, then rejected answers."""
    from trl.trainer.dpo_trainer import DPOTrainer

    ids, mask = given["ids"], given["mask"]

    def model(**inputs: Any) -> Any:
        values = logprobs_of(logits, ids) * mask[:, 1:]
        zero = values.detach() * 0
        return SimpleNamespace(log_probs=values, entropy=zero, mean_logits=zero, is_top1=zero.bool())

    trainer = SimpleNamespace(
        model=SimpleNamespace(training=True), accelerator=ACCELERATOR, aux_loss_enabled=False, ld_alpha=None,
        precompute_ref_logps=True, f_divergence_type="reverse_kl", use_weighting=False, loss_types=case["types"],
        loss_weights=case["weights"], beta=case["beta"], label_smoothing=0.0,
        _metrics=defaultdict(lambda: defaultdict(list)), _total_train_tokens=0, _tp_size=1,
    )  # fmt: skip
    reference = (given["reference"] * mask[:, 1:]).sum(dim=1)
    half = len(reference) // 2
    inputs = {"input_ids": ids, "attention_mask": ids * 0 + 1, "completion_mask": mask}
    inputs |= {"ref_chosen_logps": reference[:half], "ref_rejected_logps": reference[half:]}
    return DPOTrainer._compute_loss(trainer, model, inputs, return_outputs=False)


def dapo_loss(logits: Any, given: Any, case: dict[str, Any]) -> Any:
    """The loss of GRPOTrainer with `loss_type` dapo or grpo, over one generation batch."""
    from trl.trainer.grpo_trainer import GRPOTrainer

    ids, mask = given["ids"], given["mask"]
    values = logprobs_of(logits, ids)
    trainer = SimpleNamespace(
        model=SimpleNamespace(training=True), accelerator=ACCELERATOR, aux_loss_enabled=False, top_entropy_quantile=1.0,
        off_policy_mask_threshold=None, importance_sampling_level="token", beta=case["kl"], loss_type=case["loss_type"],
        epsilon_low=0.2, epsilon_high=0.28, use_vllm=False, current_gradient_accumulation_steps=1,
        args=SimpleNamespace(delta=None, use_bias_correction_kl=False, steps_per_generation=1),
        _entropy_bonus_enabled=False, _metrics=defaultdict(lambda: defaultdict(list)),
        _get_per_token_logps_and_entropies=lambda *arguments, **settings: (values, values.detach() * 0, None),
    )  # fmt: skip
    inputs = {
        "prompt_ids": ids[:, :1], "prompt_mask": ids[:, :1] * 0 + 1, "completion_ids": ids[:, 1:],
        "completion_mask": mask[:, 1:], "advantages": given["advantages"], "old_per_token_logps": given["old"],
        "ref_per_token_logps": given["reference"], "num_items_in_batch": mask[:, 1:].sum(),
    }  # fmt: skip
    return GRPOTrainer._compute_loss(trainer, trainer.model, inputs)


def sft_loss(logits: Any, given: Any, case: dict[str, Any]) -> Any:
    """The loss of transformers' causal models, which SFTTrainer takes, with the labels of the whole optimizer step."""
    from transformers.loss.loss_utils import ForCausalLMLoss

    labels = given["ids"].masked_fill(given["mask"] == 0, -100)
    count = (labels[:, 1:] != -100).sum()
    return ForCausalLMLoss(logits, labels, logits.shape[-1], num_items_in_batch=count)


LOSSES: dict[str, Callable[[Any, Any, dict[str, Any]], Any]] = {"dpo": dpo_loss, "dapo": dapo_loss, "sft": sft_loss}


def main(inputs: Path, out: Path) -> None:
    """Every case of the file `cases`."""
    import torch

    with np.load(inputs, allow_pickle=False) as file:
        given = {name: torch.from_numpy(file[name]) for name in file.files if name != "cases"}
        cases = json.loads(str(file["cases"]))
    found: dict[str, Any] = {}
    for name, case in cases.items():
        logits = given["logits"].clone().requires_grad_()
        loss = LOSSES[case["kind"]](logits, given, case)
        found[f"loss/{name}"] = loss.detach().numpy()
        found[f"gradient/{name}"] = torch.autograd.grad(loss, logits)[0].numpy()
    np.savez(out, **found)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
