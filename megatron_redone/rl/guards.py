"""Detectors of rewards that are won without solving the task. They are metrics: nothing is punished by them.

`guard/NAME` is the share of all responses that a detector flags, `guard/NAME_rewarded` that of the responses with a
score above one half: a share that rises there is what to look at.

| detector | flags a response |
|---|---|
| `repetition` | of 20 or more units, fewer than half of whose 4-grams are different ones |
| `copied_prompt` | of 20 or more units, more than 80% of whose 8-grams stand in the prompt |
| `wrong_language` | in Chinese where the gold answer is not, or the other way round |
| `truncated` | that was cut off at the length limit |
| `length` | of 20 or more units and more than 4 times as many as the gold answer and its rationale have |
| `empty` | that ended without a visible character |

`guard/length_score_correlation` is the correlation of length and score inside groups: near 1 means that longer answers
to the same prompt score higher. Units are words, and single Chinese characters (`data/ngrams.py`).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence

import numpy as np

from megatron_redone.data.chat_template import ChatTemplate
from megatron_redone.data.ngrams import ngram_hashes, num_cjk, unit_hashes, units
from megatron_redone.rl.rollout import Group, Response
from megatron_redone.tasks.catalogue import get_task

MIN_UNITS = 20
REPEATED_NGRAM, COPIED_NGRAM = 4, 8
MIN_DISTINCT, MAX_COPIED = 0.5, 0.8
MIN_LETTERS = 4
MAX_LENGTH_RATIO = 4.0
REWARDED = 0.5


def guard_metrics(groups: Sequence[Group], template: ChatTemplate) -> dict[str, float]:
    """All detectors over the responses of a rollout."""
    flags: dict[str, list[tuple[bool, bool]]] = {}
    for group in groups:
        prompt = template.tokenizer.decode(group.prompt_ids)
        gold = get_task(group.row.task).answer_text(group.row)
        expected = f"{group.row.rationale or ''}\n{gold}"
        detectors: dict[str, Callable[[Response], bool]] = {
            "repetition": lambda response: repeats(response.text),
            "copied_prompt": lambda response, prompt=prompt: copies(response.text, prompt),  # type: ignore[misc]
            "wrong_language": lambda response, gold=gold: other_language(response.text, gold),  # type: ignore[misc]
            "truncated": lambda response: response.truncated,
            "length": lambda response, gold=expected: much_longer(response.text, gold),  # type: ignore[misc]
            "empty": lambda response: not response.truncated and not response.text.strip(),
        }
        for name, detects in detectors.items():
            flags.setdefault(name, []).extend(
                (detects(response), response.score > REWARDED) for response in group.responses
            )
    metrics: dict[str, float] = {}
    for name, found in flags.items():
        rewarded = [flag for flag, is_rewarded in found if is_rewarded]
        metrics[f"guard/{name}"] = statistics.fmean(flag for flag, _ in found)
        metrics[f"guard/{name}_rewarded"] = statistics.fmean(rewarded) if rewarded else 0.0
    return metrics | {"guard/length_score_correlation": length_score_correlation(groups)}


def repeats(text: str) -> bool:
    """Whether a text says the same over and over."""
    found = units(text)
    if len(found) < MIN_UNITS:
        return False
    ngrams = ngram_hashes(unit_hashes(found), REPEATED_NGRAM)
    return len(np.unique(ngrams)) < MIN_DISTINCT * len(ngrams)


def copies(text: str, prompt: str) -> bool:
    """Whether a text is mostly taken from the prompt."""
    found = units(text)
    if len(found) < MIN_UNITS:
        return False
    ngrams = ngram_hashes(unit_hashes(found), COPIED_NGRAM)
    known = ngram_hashes(unit_hashes(units(prompt)), COPIED_NGRAM)
    return bool(np.isin(ngrams, known).mean() > MAX_COPIED)


def much_longer(text: str, gold: str) -> bool:
    """Whether a text is many times as long as what was asked for; where there is no gold answer it never is."""
    count, wanted = len(units(text)), len(units(gold))
    return count >= MIN_UNITS and 0 < wanted * MAX_LENGTH_RATIO < count


def other_language(text: str, gold: str) -> bool:
    """Whether exactly one of the two is Chinese; short texts and mixed ones count as either."""
    shares = [_chinese_share(text), _chinese_share(gold)]
    return None not in shares and abs(shares[0] - shares[1]) > 0.8  # type: ignore[operator]


def _chinese_share(text: str) -> float | None:
    letters = sum(character.isalpha() for character in text)
    return num_cjk(text) / letters if letters >= MIN_LETTERS else None


def length_score_correlation(groups: Sequence[Group]) -> float:
    """Correlation of the lengths and scores of responses about the means of their groups; 0 where one is constant."""
    lengths, scores = list[float](), list[float]()
    for group in groups:
        own = [float(len(response.completion.token_ids)) for response in group.responses]
        lengths += [value - statistics.fmean(own) for value in own]
        own = [response.score for response in group.responses]
        scores += [value - statistics.fmean(own) for value in own]
    spread = math.sqrt(math.fsum(x * x for x in lengths) * math.fsum(y * y for y in scores))
    return math.fsum(x * y for x, y in zip(lengths, scores, strict=True)) / spread if spread > 1e-12 else 0.0
