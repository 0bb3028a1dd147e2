"""What held-out pairs think of a model before and after DPO, with 95% intervals over pairs.

    python tools/measure_preferences.py --pairs PAIRS.jsonl --before MODEL --after MODEL

For each pair the log-probability of both answers by both models. The implicit reward of an answer is beta times what
training added to it; the margin is the chosen answer's reward less the rejected one's, the accuracy the share of pairs
with a margin above 0. `before` and `after` are the shares of pairs whose chosen answer is the likelier one a token.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from megatron_redone.common.errors import DataError, RedoneError
from megatron_redone.curation.pairs.pair_files import read_answer_pairs
from megatron_redone.data.chat_template import ChatTemplate
from megatron_redone.data.tokenizer import load_tokenizer
from megatron_redone.parallel.config import ParallelConfig
from megatron_redone.parallel.context import ParallelContext, build_context, shutdown
from megatron_redone.scoring.statistics import bootstrap_interval, paired_difference_interval, wilson_interval
from megatron_redone.training.config import DPOConfig
from megatron_redone.training.document_logprobs import document_logprobs
from megatron_redone.training.dpo import all_documents
from megatron_redone.training.model_folder import load_engine
from megatron_redone.training.preference_pairs import PairSet, PreferencePair


@dataclass(frozen=True)
class Answers:
    """Sums of log-probabilities of the chosen and the rejected answer of a pair, and their tokens."""

    chosen: float
    rejected: float
    chosen_tokens: int
    rejected_tokens: int

    @property
    def prefers_chosen(self) -> bool:
        """Whether the chosen answer is the likelier one a token."""
        return self.chosen / self.chosen_tokens > self.rejected / self.rejected_tokens


def read_pairs(path: Path, template: ChatTemplate, max_length: int) -> PairSet:
    """The pairs of a file that fit.

    Raises:
        DataError: none does.
    """
    pairs = PairSet(DPOConfig(steps=1, max_length=max_length, max_tokens_per_microbatch=2 * max_length), template)
    for found in read_answer_pairs(path, labelled=True):
        if isinstance(found, str):
            raise DataError(found)
        answers = (found.answer_a, found.answer_b) if found.label == "a" else (found.answer_b, found.answer_a)
        pairs.add(PreferencePair(found.id, found.messages, *answers, from_text=found.from_text))
    if not len(pairs):
        raise DataError(f"{path}: no pair has at most --max-length {max_length} tokens; raise it")
    return pairs


def answers_of(model: Path, pairs: PairSet, context: ParallelContext, max_tokens: int) -> list[Answers]:
    """What a model gives both answers of every pair."""
    engine, _ = load_engine(model, context)
    documents = list(all_documents(pairs))
    sums = [sum(values) for values in document_logprobs(documents, max_tokens, engine)]
    tokens = [int(sum(document.loss_mask)) for document in documents]
    return [Answers(sums[place], sums[place + 1], tokens[place], tokens[place + 1]) for place in range(0, len(sums), 2)]


def report(before: Sequence[Answers], after: Sequence[Answers], beta: float) -> list[str]:
    """Lines of a Markdown table."""
    both = list(zip(before, after, strict=True))
    chosen = [beta * (new.chosen - old.chosen) for old, new in both]
    rejected = [beta * (new.rejected - old.rejected) for old, new in both]
    margins = [good - bad for good, bad in zip(chosen, rejected, strict=True)]
    likelier = [[float(one.prefers_chosen) for one in side] for side in (before, after)]
    nats = [[one.chosen / one.chosen_tokens for one in side] for side in (before, after)]
    change = [new - old for old, new in zip(*nats, strict=True)]
    wins = sum(margin > 0 for margin in margins)
    lines = [f"| over {len(both)} pairs | mean | 95% interval |", "|---|---:|---|"]
    lines.append(_row("accuracy of the implicit reward", wins / len(both), wilson_interval(wins, len(both))))
    for name, values in (("reward margin", margins), ("reward of chosen", chosen), ("reward of rejected", rejected)):
        lines.append(_row(name, statistics.fmean(values), bootstrap_interval(values, 0)))
    for name, shares in zip(("before", "after"), likelier, strict=True):
        found = wilson_interval(int(sum(shares)), len(shares))
        lines.append(_row(f"chosen is likelier a token, {name}", statistics.fmean(shares), found))
    difference = statistics.fmean(likelier[1]) - statistics.fmean(likelier[0])
    lines.append(_row("after less before", difference, paired_difference_interval(*likelier, 0)))
    told = "nats a token of chosen answers, after less before"
    lines.append(_row(told, statistics.fmean(change), bootstrap_interval(change, 0)))
    return lines


def _row(name: str, mean: float, interval: tuple[float, float]) -> str:
    return f"| {name} | {mean:.3f} | {interval[0]:.3f} to {interval[1]:.3f} |"


def main(arguments: Sequence[str] | None = None) -> int:
    """Reads the options, measures, prints, returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", required=True, type=Path, help="file of pairs that no model was trained on")
    parser.add_argument("--before", required=True, type=Path, help="model folder")
    parser.add_argument("--after", required=True, type=Path, help="model folder with the same tokenizer")
    parser.add_argument("--beta", type=float, default=0.1)
    parser.add_argument("--max-length", type=int, default=1_024, help="longer pairs are left out, in tokens")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="bf16")
    options = parser.parse_args(arguments)
    context = build_context(ParallelConfig(precision=options.precision))
    try:
        template = ChatTemplate(load_tokenizer(options.before))
        with read_pairs(options.pairs, template, options.max_length) as pairs:
            folders = (options.before, options.after)
            sides = [answers_of(folder, pairs, context, 2 * options.max_length) for folder in folders]
            left_out = pairs.counts["dropped_too_long"]
    except RedoneError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    finally:
        shutdown()
    print(*report(*sides, options.beta), sep="\n")
    print(f"{left_out} pairs left out as too long")
    return 0


if __name__ == "__main__":
    sys.exit(main())
