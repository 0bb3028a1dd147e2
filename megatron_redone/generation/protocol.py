"""What rollout servers and their clients say to each other: JSON over HTTP. Imports no torch.

GET  /health    200, or 503 with the reason
GET  /info      `ServerInfo`
POST /generate  `GenerateRequest` -> `GenerateReply`; 409 where the server has other weights, 400 for bad prompts
POST /weights   `WeightsRequest` -> `ServerInfo`; 400 where they do not fit, and then nothing was changed
POST /broadcast `BroadcastRequest` -> `ServerInfo`; the same, and 503 where the transfer broke off: nothing was changed
Errors are `{"error": sentence}`.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from megatron_redone.config.base import StrictModel
from megatron_redone.generation.base import Completion

NOT_OF_THE_MODEL = ("router_aux_loss_coefficient", "router_z_loss_coefficient")
"""Fields of a shape that matter to training alone."""


class ServerInfo(StrictModel):
    """What a server runs."""

    shape: dict[str, Any]
    """Of the model: `ModelShape` without what matters to training alone."""
    tokenizer: str | None
    """Fingerprint of the tokenizer in the model's folder; null: there was none."""
    weights: str
    """Digest of the weights (`weight_stream.WeightDigest`)."""
    version: int
    """What the last update called them; 0 for those of the model's folder."""
    dtype: str
    max_model_len: int
    """Longest prompt and answer together, in tokens."""
    engine: str
    """Name and version of the engine."""


class GenerateRequest(StrictModel):
    """Prompts to be answered."""

    weights: str
    """Digest of the weights that are asked for."""
    prompts: tuple[tuple[int, ...], ...] = Field(min_length=1)
    keys: tuple[tuple[int, ...], ...]
    """Key of every sequence of every prompt: as many samples are made of it (`sampling.sequence_keys`)."""
    max_new_tokens: int = Field(ge=1)
    temperature: float = Field(ge=0)
    top_p: float = Field(gt=0, le=1)
    stop_ids: tuple[int, ...]


class SequenceReply(StrictModel):
    """One completion, as `Completion`."""

    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    finish_reason: Literal["stop", "length"]

    def completion(self, version: int) -> Completion:
        """As generation engines give it."""
        return Completion(self.token_ids, self.logprobs, self.finish_reason, version)


class GenerateReply(StrictModel):
    """The completions of each prompt, in order."""

    weights: str
    """Digest of the weights that made them."""
    completions: tuple[tuple[SequenceReply, ...], ...]


class WeightsRequest(StrictModel):
    """New weights, which lie in a folder that the server sees."""

    folder: str
    """Name of the folder inside the transfer folder."""
    version: int
    weights: str
    """Digest that the sender computed of them."""


class TensorEntry(StrictModel):
    """What is announced of a tensor that will come."""

    name: str
    dtype: Literal["float64", "float32", "bfloat16", "float16"]
    shape: tuple[int, ...]


class BroadcastRequest(StrictModel):
    """New weights, which come by a broadcast (`broadcast.py`)."""

    host: str
    port: int = Field(ge=1, le=65535)
    """Where the sender's store is."""
    rank: int = Field(ge=1)
    """The server's place in the group; the sender is 0."""
    world_size: int = Field(ge=2)
    backend: Literal["gloo", "nccl"]
    seconds: float = Field(gt=0)
    """Bound on the wait for the others, and on each bucket of tensors."""
    version: int
    weights: str
    """Digest that the sender computed of them."""
    tensors: tuple[TensorEntry, ...]
    """In the order that they come."""
