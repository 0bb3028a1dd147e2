"""Made-up pairs as texts and as documents, and an engine to train on them."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path

from megatron_redone.data.document import Document
from megatron_redone.nemo_aligner.service import PreparedPair
from megatron_redone.parallel.context import ParallelContext
from megatron_redone.training.batches import pack
from megatron_redone.training.config import OptimizerConfig
from megatron_redone.training.engine import MegatronEngine
from megatron_redone.verification.layout import SpreadWeights
from tests.distributed.layout_cases import shape_of

END = 3
PAIRS = 80


class MadePairs:
    """`texts` has the ids of every text that a data set may ask for."""

    def __init__(self, engine: MegatronEngine, num_pairs: int = PAIRS) -> None:
        draw = random.Random(0)
        self.texts: dict[str, list[int]] = {}
        self.prepared: dict[str, PreparedPair] = {}
        self.lines: list[dict[str, str]] = []

        def ids(longest: int) -> list[int]:
            return [draw.randrange(4, engine.shape.vocab_size) for _ in range(draw.randrange(2, longest))]

        for number in range(num_pairs):
            name, prompt, answers = f"pair-{number}", ids(9), (ids(6), ids(6))
            texts = [f"<{part}{number}>" for part in ("prompt", "chosen", "rejected")]
            self.lines.append(
                dict(zip(("id", "prompt", "chosen_response", "rejected_response"), (name, *texts), strict=True))
            )
            self.texts[texts[0]] = prompt
            documents = []
            for text, answer in zip(texts[1:], answers, strict=True):
                self.texts[texts[0] + text] = [*prompt, *answer]
                mask = [0.0] * len(prompt) + [1.0] * (len(answer) + 1)
                documents.append(Document([*prompt, *answer, END], mask, name))
            self.prepared[name] = PreparedPair(*with_reference(engine, documents))

    def write(self, path: Path) -> Path:
        """The lines as a file."""
        path.write_text("".join(json.dumps(line) + "\n" for line in self.lines), encoding="utf-8")
        return path


def with_reference(engine: MegatronEngine, documents: list[Document]) -> list[Document]:
    """The documents with the engine's own log-probabilities as those of the reference model."""
    values, found, start = engine.logprobs([pack(documents, engine)])[0].tolist(), [], 0
    for document in documents:
        row = [0.0, *values[start : start + len(document) - 1]]
        found.append(replace(document, signals={"reference_logprobs": row}))
        start += len(document)
    return found


def engine_of(context: ParallelContext) -> MegatronEngine:
    """The same weights at every call."""
    shape = shape_of("qwen3-tiny")
    engine = MegatronEngine(shape, context, OptimizerConfig(lr=1e-2, epsilon=1e-3))
    engine.load_hf_weights(SpreadWeights(shape, 3), "test weights")
    return engine
