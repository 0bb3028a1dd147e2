"""Greedy answers of a model before and after conversion: transformers on both folders, our engine on the checkpoint.

    python tools/compare_answers.py --hf MODEL --megatron CHECKPOINT --back RETURNED_MODEL

All in fp32. Prints how many of the twenty answers are the same token by token; the exit code is 1 when one differs.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

# Before torch is imported, which reads it once.
os.environ.update(HF_HUB_OFFLINE="1", TORCHDYNAMO_DISABLE="1", TOKENIZERS_PARALLELISM="false")

import torch
from transformers import AutoModelForCausalLM
from transformers.utils.logging import disable_progress_bar

from megatron_redone.data.chat_template import ChatTemplate
from megatron_redone.generation.base import SamplingParams
from megatron_redone.generation.megatron_engine import MegatronGenerator
from megatron_redone.parallel.config import ParallelConfig
from megatron_redone.parallel.context import build_context
from megatron_redone.training.model_folder import load_engine

MAX_NEW_TOKENS = 32
QUESTIONS = (
    "Name three fruits that are red.", "What is the capital of Japan?", "Write a title for a note about hiking.",
    "How many minutes are two hours?", "Is a tomato a vegetable?", "Suggest two hashtags for a cake.",
    "Translate to French: good morning.", "Which is larger, 17 or 71?", "Give one tip for better sleep.",
    "What do bees make?", "Finish the sentence: The sea was", "Name a city in Brazil.",
    "What colour is a lemon?", "Write a short comment on a holiday photo.", "What is 12 plus 30?",
    "Who wrote Hamlet?", "Name an animal that lays eggs.", "What should I pack for a rainy day?",
    "Is water wet? Answer in one sentence.", "List the days of the weekend.",
)  # fmt: skip


def answers_of_transformers(folder: Path, prompts: Sequence[list[int]], stop_ids: Sequence[int]) -> list[list[int]]:
    """Token ids of the greedy answers."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, local_files_only=True).eval()
    found = []
    for prompt in prompts:
        tokens = torch.tensor([prompt])
        answer = model.generate(
            tokens,
            attention_mask=torch.ones_like(tokens),
            do_sample=False,
            max_new_tokens=MAX_NEW_TOKENS,
            eos_token_id=list(stop_ids),
        )
        found.append(answer[0, len(prompt) :].tolist())
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("hf", "megatron", "back"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    folders = parser.parse_args(arguments)
    disable_progress_bar()
    context = build_context(ParallelConfig(precision="fp32"))
    engine, tokenizer = load_engine(folders.megatron, context)
    template = ChatTemplate(tokenizer)
    prompts = [template.prompt_ids([{"role": "user", "content": question}]) for question in QUESTIONS]
    before = answers_of_transformers(folders.hf, prompts, template.stop_ids)
    after = answers_of_transformers(folders.back, prompts, template.stop_ids)
    params = SamplingParams(MAX_NEW_TOKENS, temperature=0.0, stop_ids=tuple(template.stop_ids))
    completions = MegatronGenerator(engine.model, context).generate(prompts, params, list(QUESTIONS))
    ours = [list(completion.token_ids) for [completion] in completions]
    returned, in_megatron = (sum(a == b for a, b in zip(before, other, strict=True)) for other in (after, ours))
    print(f"{returned} of {len(prompts)} answers are the same after the way there and back")
    print(f"{in_megatron} of {len(prompts)} answers of our engine on the checkpoint are those of transformers")
    print(f"for example: {QUESTIONS[0]} -> {tokenizer.decode(before[0])!r}")
    return int(returned < len(prompts) or in_megatron < len(prompts))


if __name__ == "__main__":
    sys.exit(main())
