"""Settings of generation: which engine makes completions, and how they are drawn. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pydantic import Field

from megatron_redone.config.base import StrictModel

EngineName = Literal["megatron", "vllm", "servers"]


class VLLMConfig(StrictModel):
    """vLLM in this process, or in a rollout server."""

    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Data type of its copy of the weights; auto: that of the trainer or of the model folder."""
    tensor_parallel_size: int = Field(1, ge=1)
    """GPUs that share one copy of the model."""
    gpu_memory_utilization: float = Field(0.4, gt=0, lt=1)
    """Share of a GPU's memory for weights and key-value cache; the trainer needs the rest. Not read on a CPU."""
    kv_cache_gib: float | None = Field(None, gt=0)
    """Memory of the key-value cache in GiB; null: what `gpu_memory_utilization` leaves, on a CPU 1 GiB."""
    max_model_len: int | None = Field(None, ge=2)
    """Longest prompt and answer together, in tokens; null: max_prompt_tokens + max_new_tokens."""
    max_batched_tokens: int | None = Field(None, ge=16)
    """Tokens of one forward pass; null: vLLM's own choice."""
    enforce_eager: bool | None = None
    """Run without CUDA graphs and compiler; null: so on a CPU, not so on a GPU."""
    colocated: bool = False
    """In reinforcement learning: it sleeps while the trainer trains, its weights in host memory and its key-value cache
    gone, and wakes for the next rollout. Does nothing on a CPU, where there is one memory."""
    prefix_caching: bool = True
    """Keep keys and values of prompts, which the samples of a group share; emptied at every update of the weights."""


class ServersConfig(StrictModel):
    """Rollout servers on this or other nodes (`redone serve`)."""

    urls: tuple[str, ...] = ()
    """Their addresses: `http://node7:8600`."""
    transfer_folder: Path | None = None
    """Folder that this job and all servers see under this path; new weights pass through it. null: weights cannot be
    updated, which serves evaluation and labelling."""
    transfer: Literal["files", "broadcast"] = "files"
    """How new weights reach the servers. files: by `transfer_folder`. broadcast: over the network from the host memory
    of this job's rank 0, which keeps a copy of the weights for servers that come back."""
    transfer_backend: Literal["gloo", "nccl"] = "gloo"
    """Of a broadcast. nccl: between GPUs; no server may then be on a GPU of this job's rank 0."""
    transfer_host: str | None = None
    """Address of this machine that servers reach for a broadcast; null: the one on the way to them."""
    transfer_seconds: float = Field(300.0, gt=0)
    """Bound on the wait for all servers to join a broadcast, and on each of its buckets."""
    concurrency: int = Field(4, ge=1)
    """Requests in flight at each server."""
    prompts_per_request: int = Field(16, ge=1)
    """Prompts of one request: what is repeated when a server is lost."""
    connect_seconds: float = Field(300.0, gt=0)
    """Bound on the wait for a server to answer at the start, and for any to come back when none is left."""
    request_seconds: float = Field(1800.0, gt=0)
    """Bound on one request; a server that takes longer counts as lost."""


class EngineConfig(StrictModel):
    """The engine behind `GenerationEngine`; every engine draws the same tokens from the same logits."""

    engine: EngineName = "megatron"
    """megatron: the in-process generator on the trainer's own weights. vllm: vLLM in this process, on a copy of them.
    servers: vLLM in processes of their own, on this or other nodes."""
    vllm: VLLMConfig = VLLMConfig()
    servers: ServersConfig = ServersConfig()

    def rule_violations(self) -> Iterator[str]:
        """Servers need addresses."""
        if self.engine == "servers" and not self.servers.urls:
            yield "servers.urls=(): engine=servers needs at least one address; start one with `redone serve`"
        if self.servers.transfer == "broadcast" and self.servers.transfer_folder is not None:
            yield (
                f"servers.transfer_folder={self.servers.transfer_folder}: nothing passes through it with "
                "servers.transfer=broadcast; leave one of them out"
            )
        wrong = [url for url in self.servers.urls if not url.startswith(("http://", "https://"))]
        if wrong:
            yield f"servers.urls={wrong[0]!r}: an address looks like http://node7:8600"


class GenerationConfig(EngineConfig):
    """How completions are drawn, and by which engine."""

    temperature: float = Field(1.0, ge=0)
    """0 takes the most likely token."""
    top_p: float = Field(1.0, gt=0, le=1)
    """Draw from the smallest set of tokens with this probability."""
    max_new_tokens: int = Field(64, ge=1)
    max_prompt_tokens: int = Field(1024, ge=1)
    """Longest prompt; see `over_long`."""
    over_long: Literal["drop", "truncate"] = "drop"
    """A longer prompt is left out and counted, or loses its first tokens."""
    max_sequences: int = Field(256, ge=1)
    """Sequences generated at once (bounds the memory of the key-value cache)."""
