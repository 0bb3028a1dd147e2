"""An export, read by NeMo-Aligner's and NeMo's own classes in their environment, against what our engine makes of it.

Checked: the configuration (read, merged with the checkpoint's as its program does), the pairs (its data set with NeMo's
tokenizer gives our tokens and labels), the checkpoint (Megatron-core 0.11's reader into its GPTModel, built from
NeMo's reading of `model_config.yaml`, every key strictly), and the log-probabilities of some pairs by that model.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from megatron_redone.checkpoint.hf_folder import SafetensorsFolder
from megatron_redone.common.errors import TrainingError
from megatron_redone.models.families import read_shape
from megatron_redone.nemo_aligner.process import NemoAlignerProcess
from megatron_redone.nemo_aligner.wire import Message
from megatron_redone.parallel.context import ParallelContext
from megatron_redone.training.batches import pack
from megatron_redone.training.engine import MegatronEngine
from megatron_redone.training.preference_pairs import PairSet

MAX_PAIRS = 8
MAX_GAP = 1e-3
"""Nats a token between two implementations in fp32."""


class _Rounded(Mapping[str, Tensor]):
    """Tensors as they were exported in bf16, in fp32."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self.tensors = tensors

    def __getitem__(self, name: str) -> Tensor:
        return self.tensors[name].to(torch.bfloat16).float()

    def __iter__(self) -> Iterator[str]:
        return iter(self.tensors)

    def __len__(self) -> int:
        return len(self.tensors)


def engine_of_export(model: Path, precision: str, context: ParallelContext) -> MegatronEngine:
    """Our engine, in fp32, with the weights that an export of the model folder in a precision holds."""
    tensors: Mapping[str, Tensor] = SafetensorsFolder(model)
    engine = MegatronEngine(read_shape(model), context)
    engine.load_hf_weights(_Rounded(tensors) if precision == "bf16" else tensors, str(model))
    return engine


@dataclass(frozen=True)
class Checked:
    """What was compared: pairs as tokens, parameters loaded, answers by log-probability and their largest gap."""

    pairs: int
    parameters: int
    answers: int
    largest_gap: float


def check_export(folder: Path, mount: str, python: Path, log: Path, pairs: PairSet, engine: MegatronEngine) -> Checked:
    """Lets NeMo's classes read the folder.

    Args:
        mount: what its paths begin with.
        pairs: those that were exported, the left-out ones among them.
        engine: our model with the exported weights, in one process and fp32.
    Raises:
        TrainingError: they refuse it, or read something else than we do.
    """
    order = {"folder": str(folder.resolve()), "mount": mount, "max_pairs": MAX_PAIRS}
    with NemoAlignerProcess(python, log) as process:
        process.send("check_export", order)
        places = {name: place for place, name in enumerate(pairs.ids)}
        num_pairs = 0
        while (message := process.receive()).kind == "pair":
            _compare_tokens(message, pairs, places)
            num_pairs += 1
        num_parameters = int(_expect(message, "loaded").values["parameters"])
        gaps: list[float] = []
        while (message := process.receive()).kind == "logprobs":
            gaps += _gaps(message, pairs, places, engine)
        _expect(message, "checked")
    largest = max(gaps)
    if not largest <= MAX_GAP:
        raise TrainingError(
            f"{folder}: NeMo's model gives log-probabilities that differ by {largest:.3g} from ours, more than "
            f"{MAX_GAP:g}; the checkpoint or its model_config.yaml says something else than the model"
        )
    return Checked(num_pairs, num_parameters, len(gaps), largest)


def _expect(message: Message, kind: str) -> Message:
    if message.kind != kind:
        raise TrainingError(f"the check answered {message.kind!r} where {kind!r} was due; see its log")
    return message


def _compare_tokens(message: Message, pairs: PairSet, places: dict[str, int]) -> None:
    name = message.values["id"]
    for side, document in zip(("chosen", "rejected"), pairs.documents(places[name]), strict=True):
        labels = np.where(np.asarray(document.loss_mask[1:]) > 0, document.token_ids[1:], -100)
        length = int(message.arrays[f"{side}_length"].item())
        wanted: dict[str, Any] = {side: np.asarray(document.token_ids[:-1]), f"{side}_labels": labels}
        for what, ours in wanted.items():
            theirs = message.arrays[what]
            if length != len(ours) or not np.array_equal(theirs[:length], ours):
                raise TrainingError(
                    f"pair {name}: NeMo-Aligner's data set reads another {what} than the native trainer"
                )


def _gaps(message: Message, pairs: PairSet, places: dict[str, int], engine: MegatronEngine) -> list[float]:
    """The largest difference for each answer of a pair."""
    documents = pairs.documents(places[message.values["id"]])
    ours = engine.logprobs([pack(list(documents), engine)])[0].tolist()
    found, start = [], 0
    for document, side in zip(documents, ("chosen", "rejected"), strict=True):
        row = np.asarray(ours[start : start + len(document) - 1])
        learnt = np.asarray(document.loss_mask[1:]) > 0
        theirs = message.arrays[side][: len(document) - 1]
        found.append(float(np.abs(row - theirs)[learnt].max()))
        start += len(document)
    return found
