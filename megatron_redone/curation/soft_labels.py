"""Best-of-n soft labels: the model's own best answer as the target (RedOne 2.0, Targeted Fine-Tuning).

The paper scores 8 candidates of the stage-1 model by a judge model. Where no judge is at hand, the composite
quality here is the task's own score and the model's confidence:

    quality = w * score + (1 - w) * mean token probability

Ours: guards (`soft_label_guards.py`) pass over candidates that are much longer than the others, repeat themselves, or
say what was kept before; the best of the rest is taken. Every row tells its candidates, their scores and the model.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from megatron_redone.common.seeding import derive_seed
from megatron_redone.curation.config import SoftLabelConfig
from megatron_redone.curation.conversations import TrainingConversation
from megatron_redone.curation.soft_label_guards import Guards, too_long
from megatron_redone.data.chat_template import ChatTemplate
from megatron_redone.data.conversation import Message
from megatron_redone.generation.base import Completion, GenerationEngine, SamplingParams
from megatron_redone.generation.prompts import fit_prompt
from megatron_redone.tasks.base import Row
from megatron_redone.tasks.catalogue import check_scorable, get_task


@dataclass
class Candidate:
    """One answer of the model to a row."""

    number: int
    tokens: int
    score: float
    """Of the row's task, 0..1."""
    confidence: float
    """Mean probability of its tokens (geometric)."""
    quality: float
    passed_over: str = ""
    """Why it was not taken although it may be the best."""


def soft_labels(
    config: SoftLabelConfig,
    rows: Sequence[Row],
    wanted: int,
    generator: GenerationEngine,
    template: ChatTemplate,
    seed: int,
    model: str = "",
) -> tuple[list[TrainingConversation], dict[str, int]]:
    """Up to `wanted` rows with their best candidate as the answer, and counts of what was rejected.

    Of rows in an order drawn from the seed twice as many as wanted are tried. A row is left out whose prompt is over
    the limit (`drop`), whose best candidate is below the floor, or all of whose candidates above it are passed over by
    the guards (`guarded`; `passed_over_REASON` counts candidates).

    Args:
        model: digest of the weights that answer, for the provenance.
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
    answers = generator.generate(list(prompts.values()), params, [order[i].id for i in prompts])
    guards = Guards(config)
    kept: list[TrainingConversation] = []
    counts = {"tried": 0, "kept": 0, "below_floor": 0, "guarded": 0}
    passed_over = dict.fromkeys(("too_long", "repetitive", "near_duplicate"), 0)
    for index, samples in zip(prompts, answers, strict=True):
        if len(kept) == wanted:
            break
        row = order[index]
        counts["tried"] += 1
        texts = [template.tokenizer.decode(sample.token_ids) for sample in samples]
        candidates = [_candidate(number, row, sample, texts, config) for number, sample in enumerate(samples)]
        best = _best(candidates, texts, config, guards)
        for candidate in candidates:
            if candidate.passed_over:
                passed_over[candidate.passed_over] += 1
        if best is None:
            counts["guarded" if any(c.passed_over for c in candidates) else "below_floor"] += 1
            continue
        guards.keep(texts[best.number])
        answer: Message = {"role": "assistant", "content": texts[best.number]}
        messages = [*get_task(row.task).render(row), answer]
        origin = f"best of {config.num_candidates}, quality {best.quality:.3f}"
        provenance = _provenance(best, candidates, config, model, samples[best.number].version)
        kept.append(TrainingConversation(row.id, row.task, messages, origin, provenance=provenance))
    counts |= {"kept": len(kept), "over_long_prompts": len(whole) - len(prompts)}
    return kept, {**counts, **{f"passed_over_{reason}": number for reason, number in passed_over.items()}}


def _best(
    candidates: Sequence[Candidate], texts: Sequence[str], config: SoftLabelConfig, guards: Guards
) -> Candidate | None:
    """The candidate of the highest quality (the first of equals) that is above the floor and passes the guards."""
    lengths = [candidate.tokens for candidate in candidates]
    for candidate in sorted(candidates, key=lambda one: (-one.quality, one.number)):
        if candidate.quality < config.floor:
            return None
        if too_long(candidate.tokens, lengths, config.max_length_ratio):
            candidate.passed_over = "too_long"
        else:
            candidate.passed_over = guards.problem(texts[candidate.number])
        if not candidate.passed_over:
            return candidate
    return None


def _provenance(
    best: Candidate, candidates: Sequence[Candidate], config: SoftLabelConfig, model: str, version: int
) -> dict[str, Any]:
    """What a reader needs to see why this answer stands here."""
    better = [c.number for c in candidates if c.passed_over]
    rest = f"; {len(better)} better or equal passed over" if better else ""
    return {
        "model": model,
        "weights_version": version,
        "chosen": best.number,
        "why": f"highest quality {best.quality:.3f} >= floor {config.floor:g}{rest}",
        "correctness_weight": config.correctness_weight,
        "temperature": config.generation.temperature,
        "candidates": [
            {name: round(value, 6) if isinstance(value, float) else value for name, value in asdict(one).items()}
            for one in candidates
        ],
    }


def _candidate(number: int, row: Row, sample: Completion, texts: Sequence[str], config: SoftLabelConfig) -> Candidate:
    """An answer and its composite quality in 0..1; one that did not end, or has no text, is worth 0."""
    tokens = len(sample.token_ids)
    if sample.finish_reason != "stop" or tokens < 2:
        return Candidate(number, tokens, 0.0, 0.0, 0.0)
    score = get_task(row.task).score([texts[number]], [row])[0].value
    confidence = math.exp(sum(sample.logprobs) / len(sample.logprobs))
    quality = config.correctness_weight * score + (1 - config.correctness_weight) * confidence
    return Candidate(number, tokens, score, confidence, quality)
