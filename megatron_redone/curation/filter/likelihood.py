"""How likely a small causal language model finds each text, through the training engine's forward pass."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from megatron_redone.curation.filter.config import LanguageModelConfig
from megatron_redone.data.document import Document

UNJUDGED = float("nan")
"""Likelihood of a text that is too short to be judged."""
READ_AHEAD = 64
"""Texts that are sorted by length at a time, so that batches are full."""
CHARACTERS_PER_TOKEN = 16
"""No more than so many characters a token are handed to the tokenizer: what comes after would be cut off anyway."""


class LikelihoodModel:
    """A small causal language model that scores texts.

    Args:
        folder: Hugging Face folder of a family that we know.
    """

    def __init__(self, folder: Path, config: LanguageModelConfig) -> None:
        from megatron_redone.parallel.config import ParallelConfig
        from megatron_redone.parallel.context import build_context
        from megatron_redone.training.model_folder import load_engine

        self.config = config
        context = build_context(ParallelConfig(precision=config.precision))
        self.engine, self.tokenizer = load_engine(folder, context)

    def mean_logprobs(self, texts: Iterable[str]) -> Iterator[float]:
        """Mean log-probability of a token of each text, in nats, in order; NaN for texts below `min_tokens`.

        The text's first `max_tokens` tokens count, the first of them after the end-of-document token.
        """
        waiting: list[list[int]] = []
        for text in texts:
            cut = text[: self.config.max_tokens * CHARACTERS_PER_TOKEN]
            waiting.append(self.tokenizer.encode(cut)[: self.config.max_tokens])
            if len(waiting) == READ_AHEAD:
                yield from self._scores(waiting)
                waiting = []
        yield from self._scores(waiting)

    def _scores(self, texts: Sequence[list[int]]) -> list[float]:
        from megatron_redone.data.batch import PackedBatch

        scores = [UNJUDGED] * len(texts)
        batches = self._batches([place for place, ids in enumerate(texts) if len(ids) >= self.config.min_tokens], texts)
        for places in batches:
            documents = [
                Document([self.tokenizer.eos_id, *texts[place]], [1.0] * (len(texts[place]) + 1), str(place))
                for place in places
            ]
            batch = PackedBatch.from_documents(documents, self.engine.row_multiple)
            (row,) = self.engine.logprobs([batch])
            start = 0
            for place in places:
                length = len(texts[place])
                scores[place] = float(row[start : start + length].double().mean())
                start += length + 1
        return scores

    def _batches(self, places: Sequence[int], texts: Sequence[list[int]]) -> list[list[int]]:
        """Places in batches of at most `tokens_per_batch` tokens; texts of like length come together."""
        batches: list[list[int]] = []
        room = 0
        for place in sorted(places, key=lambda place: (len(texts[place]), place)):
            tokens = len(texts[place]) + 1
            if tokens > room:
                batches.append([])
                room = self.config.tokens_per_batch
            batches[-1].append(place)
            room -= tokens
        return batches


def bounds(
    scores: npt.NDArray[np.float32], languages: Sequence[str], config: LanguageModelConfig
) -> dict[str, tuple[float | None, float | None]]:
    """language -> (smallest, largest) mean log-probability that is kept; under `*` those of languages not listed.

    Args:
        scores: [n] of the sampled documents; NaN where one was not judged.
        languages: n codes.
    """
    upper = config.max_logprob
    found: dict[str, tuple[float | None, float | None]] = {"*": (config.min_logprob, upper)}
    if config.percentile is None:
        return found
    codes = np.array(languages)
    for language in sorted(set(languages)):
        judged = scores[(codes == language) & ~np.isnan(scores)]
        if len(judged):
            found[language] = (float(np.percentile(judged, config.percentile)), upper)
    return found


def likelihood_problem(score: float, lower: float | None, upper: float | None) -> tuple[str, str] | None:
    """(reason, detail) where a text is too unlikely or too likely; an unjudged one never is."""
    if lower is not None and score < lower:
        return "incoherent", f"{score:.3f} nats a token below {lower:.3f}"
    if upper is not None and score > upper:
        return "too_predictable", f"{score:.3f} nats a token above {upper:.3f}"
    return None
