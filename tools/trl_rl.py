"""Measures TRL's GRPOTrainer (loss dapo) or DPOTrainer on CPU, step by step: the peer of `redone benchmark rl`.

    redone benchmark rl --peer "TRL_ENVIRONMENT/bin/python tools/trl_rl.py"

Runs in an environment made from requirements/trl.lock and imports nothing of this project; `redone benchmark rl` calls
it with a file of settings. Prompts and pairs come as token ids in the order of our steps, so both sides read the same
tokens; only tokenizing is not the trainer's own work. A DAPO step is a rollout with its updates: generation by
transformers, rewards, old log-probabilities, updates; there are two updates or more, so TRL computes old
log-probabilities as we do. The reward is one comparison of strings. For DPO the reference is precomputed before the
first step. No gradient checkpointing, no logging, no saving, fused AdamW, a constant learning rate.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = ("torch", "transformers", "trl", "accelerate", "datasets")
GENERATE, REWARD, OLD_LOGPROBS, UPDATE, REST = "generate", "reward", "old_logprobs", "update", "rest"


class Clock:
    """Seconds by part: from the call that begins a part to the call that begins the next."""

    def __init__(self) -> None:
        self.steps: list[dict[str, Any]] = []
        self.begin()

    def begin(self) -> None:
        """A new step."""
        self.current: dict[str, Any] = {"parts": {}, "prompt_tokens": 0, "new_tokens": 0, "trained_tokens": 0}
        self.part, self.start = REST, time.perf_counter()
        self.since, self.cpu_start = self.start, time.process_time()

    def enter(self, part: str) -> None:
        """The part that begins now."""
        now = time.perf_counter()
        self.current["parts"][self.part] = self.current["parts"].get(self.part, 0.0) + now - self.since
        self.part, self.since = part, now

    def end_step(self) -> None:
        """The step ends and the next one begins."""
        self.enter(REST)
        cpu = time.process_time() - self.cpu_start
        self.steps.append({"seconds": self.since - self.start, "cpu_seconds": cpu, **self.current})
        self.begin()


def lines_of(path: str) -> list[dict[str, Any]]:
    """The objects of a JSONL file."""
    return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]


def common_arguments(settings: dict[str, Any], work: str) -> dict[str, Any]:
    """What both trainers are told."""
    return {
        "output_dir": work,
        "model_init_kwargs": {"dtype": "float32", "attn_implementation": "sdpa"},
        "use_cpu": True,
        "bf16": settings["config"]["precision"] == "bf16",
        "gradient_checkpointing": False,
        "per_device_train_batch_size": settings["micro_batch"],
        "optim": "adamw_torch_fused",
        "learning_rate": 1e-6,
        "lr_scheduler_type": "constant",
        "adam_beta1": 0.9,
        "adam_beta2": 0.95,
        "weight_decay": 0.1,
        "max_grad_norm": 1.0,
        "dataloader_num_workers": 0,
        "dataloader_pin_memory": False,
        "torch_compile": settings["compile"],
        "logging_strategy": "no",
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "seed": settings["config"]["seed"],
    }


def dapo_trainer(settings: dict[str, Any], work: str, clock: Clock) -> Any:
    """A GRPOTrainer whose calls set the clock."""
    from datasets import Dataset
    from transformers import AutoTokenizer, TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    sizes = settings["config"]["dapo"]
    prompts = lines_of(settings["inputs"]["prompts"])
    sequences = sizes["minibatch_prompts"] * sizes["responses_per_prompt"]
    updates = sizes["prompts_per_rollout"] // sizes["minibatch_prompts"]

    class ClockedTrainer(GRPOTrainer):
        """Parts begin where the trainer calls its own methods."""

        scoring = False

        def _tokenize_prompts(self, names: list[str]) -> Any:
            return [list(prompts[int(name)]["prompt_ids"]) for name in names], None, {}

        def _generate(self, *args: Any, **kwargs: Any) -> Any:
            clock.enter(GENERATE)
            found = super()._generate(*args, **kwargs)
            clock.enter(REWARD)
            clock.current["prompt_tokens"] += sum(map(len, found[0])) // sizes["responses_per_prompt"]
            clock.current["new_tokens"] += sum(map(len, found[1]))
            clock.current["trained_tokens"] += sum(map(len, found[0])) + sum(map(len, found[1]))
            return found

        def _get_per_token_logps_and_entropies(self, *args: Any, **kwargs: Any) -> Any:
            if self.scoring:
                clock.enter(OLD_LOGPROBS)
            return super()._get_per_token_logps_and_entropies(*args, **kwargs)

        def _generate_and_score_completions(self, *args: Any, **kwargs: Any) -> Any:
            self.scoring = True
            found = super()._generate_and_score_completions(*args, **kwargs)
            self.scoring = False
            clock.enter(UPDATE)
            return found

    class StepEnds(TrainerCallback):
        """The last update of a rollout ends the step."""

        def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
            clock.begin()

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step % updates == 0:
                clock.end_step()

    def reward(prompts: list[str], completions: list[str], answer: list[str], **kwargs: Any) -> list[float]:
        return [float(text.strip() == gold) for text, gold in zip(completions, answer, strict=True)]

    rollouts = sizes["warmup"] + sizes["steps"]
    config = GRPOConfig(
        **common_arguments(settings, work),
        loss_type="dapo",
        beta=0.0,
        epsilon=0.2,
        epsilon_high=0.28,
        scale_rewards="group",
        temperature=1.0,
        num_generations=sizes["responses_per_prompt"],
        num_iterations=1,
        gradient_accumulation_steps=sequences // settings["micro_batch"],
        steps_per_generation=updates * sequences // settings["micro_batch"],
        max_completion_length=sizes["max_new_tokens"],
        max_steps=rollouts * updates,
        shuffle_dataset=False,
    )
    rows = [{"prompt": str(place), "answer": row["answer"]} for place, row in enumerate(prompts)]
    tokenizer = AutoTokenizer.from_pretrained(settings["inputs"]["model"], local_files_only=True, padding_side="left")
    return ClockedTrainer(
        settings["inputs"]["model"],
        reward,
        config,
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
        callbacks=[StepEnds()],
    )


def dpo_trainer(settings: dict[str, Any], work: str, clock: Clock) -> Any:
    """A DPOTrainer with a precomputed reference, over the pairs in their order."""
    from datasets import Dataset
    from torch.utils.data import SequentialSampler
    from transformers import AutoTokenizer, TrainerCallback
    from trl import DPOConfig, DPOTrainer

    sizes = settings["config"]["dpo"]

    class OrderedTrainer(DPOTrainer):
        """Takes token ids as they are."""

        def _prepare_dataset(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
            return dataset

        def _get_train_sampler(self, *args: Any, **kwargs: Any) -> Any:
            return SequentialSampler(self.train_dataset)

        def _compute_loss(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
            clock.current["trained_tokens"] += int(inputs["attention_mask"].sum())
            clock.current["padded_tokens"] = clock.current.get("padded_tokens", 0) + inputs["attention_mask"].numel()
            return super()._compute_loss(model, inputs, *args, **kwargs)

    class StepEnds(TrainerCallback):
        """Every optimizer step is a step."""

        def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
            clock.begin()
            clock.enter(UPDATE)

        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            clock.end_step()
            clock.enter(UPDATE)

    config = DPOConfig(
        **common_arguments(settings, work),
        beta=0.1,
        loss_type=["sigmoid"],
        precompute_ref_log_probs=True,
        max_length=None,
        gradient_accumulation_steps=sizes["pairs_per_step"] // settings["micro_batch"],
        max_steps=sizes["warmup"] + sizes["steps"],
    )
    return OrderedTrainer(
        settings["inputs"]["model"],
        args=config,
        train_dataset=Dataset.from_list(lines_of(settings["inputs"]["pairs_in_order"])),
        processing_class=AutoTokenizer.from_pretrained(settings["inputs"]["model"], local_files_only=True),
        callbacks=[StepEnds()],
    )


def measure(settings: dict[str, Any]) -> dict[str, Any]:
    """Trains; returns the measured steps."""
    import torch
    from transformers import PrinterCallback

    clock = Clock()
    build = dapo_trainer if settings["part"] == "dapo" else dpo_trainer
    with tempfile.TemporaryDirectory() as work:
        os.environ["HF_DATASETS_CACHE"] = work
        trainer = build(settings, work, clock)
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    return {
        "steps": clock.steps[settings["config"][settings["part"]]["warmup"] :],
        "threads": torch.get_num_threads(),
        "versions": {name: metadata.version(name) for name in PACKAGES},
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Reads the options, measures, writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("settings", type=Path, help="JSON file that `redone benchmark rl` wrote")
    parser.add_argument("--out", required=True, type=Path, help="JSON file for the steps")
    options = parser.parse_args(arguments)
    settings = json.loads(options.settings.read_text(encoding="utf-8"))
    # Before torch is imported, which reads them once.
    quiet = {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_DATASETS_DISABLE_PROGRESS_BARS": "1", "TQDM_DISABLE": "1"}
    os.environ.update(quiet, HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false")
    if settings["compile"]:
        os.environ.pop("TORCHDYNAMO_DISABLE", None)
    options.out.write_text(json.dumps(measure(settings)) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
