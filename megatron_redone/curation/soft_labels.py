"""Best-of-n soft labels: the model's own best answer as the target (RedOne 2.0, Targeted Fine-Tuning).

The paper scores 8 candidates of the stage-1 model by a judge model. Where no judge is at hand, the composite
quality here is the task's own score and the model's confidence:

    quality = w * score + (1 - w) * mean token probability
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from megatron_redone.common.seeding import derive_seed
from megatron_redone.curation.config import SoftLabelConfig
from megatron_redone.curation.conversations import TrainingConversation
from megatron_redone.data.chat_template import ChatTemplate
from megatron_redone.data.conversation import Message
from megatron_redone.generation.base import Completion, GenerationEngine, SamplingParams
from megatron_redone.generation.prompts import fit_prompt
from megatron_redone.tasks.base import Row
from megatron_redone.tasks.catalogue import check_scorable, get_task


def soft_labels(
    config: SoftLabelConfig,
    rows: Sequence[Row],
    wanted: int,
    generator: GenerationEngine,
    template: ChatTemplate,
    seed: int,
) -> tuple[list[TrainingConversation], dict[str, int]]:
    """Up to `wanted` rows with their best candidate as the answer, and counts of what was rejected.

    Of rows in an order drawn from the seed twice as many as wanted are tried. A row whose best candidate is below the
    floor, or whose prompt is over the limit (`drop`), is left out.
    """
    check_scorable(rows)
    order = sorted(rows, key=lambda row: derive_seed(seed, "soft label", row.id))[: 2 * wanted]
    whole = [template.prompt_ids(get_task(row.task).render(row)) for row in order]
    prompts = {i: fitted for i, prompt in enumerate(whole) if (fitted := fit_prompt(prompt, config.generation))}
    params = SamplingParams.of(
        config.generation,
        template.stop_ids,
        num_samples=config.num_candidates,
        seed=derive_seed(seed, "candidates"),
    )
    candidates = generator.generate(list(prompts.values()), params, [order[i].id for i in prompts])
    kept: list[TrainingConversation] = []
    below_floor = tried = 0
    for index, samples in zip(prompts, candidates, strict=True):
        if len(kept) == wanted:
            break
        row = order[index]
        tried += 1
        quality, best = max(((_quality(row, sample, template, config), -place) for place, sample in enumerate(samples)))
        if quality < config.floor:
            below_floor += 1
            continue
        text = template.tokenizer.decode(samples[-best].token_ids)
        answer: Message = {"role": "assistant", "content": text}
        messages = [*get_task(row.task).render(row), answer]
        origin = f"best of {config.num_candidates}, quality {quality:.3f}"
        kept.append(TrainingConversation(row.id, row.task, messages, origin))
    over_long = len(whole) - len(prompts)
    return kept, {"tried": tried, "kept": len(kept), "below_floor": below_floor, "over_long_prompts": over_long}


def _quality(row: Row, sample: Completion, template: ChatTemplate, config: SoftLabelConfig) -> float:
    """Composite quality in 0..1; an answer that did not end scores 0."""
    if sample.finish_reason != "stop" or len(sample.token_ids) < 2:
        return 0.0
    score = get_task(row.task).score([template.tokenizer.decode(sample.token_ids)], [row])[0].value
    confidence = math.exp(sum(sample.logprobs) / len(sample.logprobs))
    return config.correctness_weight * score + (1 - config.correctness_weight) * confidence
