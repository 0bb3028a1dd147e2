"""Weights from the trainer to a generation engine, in gigabytes a second, against a copy of the same bytes.

The ways take turns, round after round, with the same weights in one process; ratios are of the same round. The
in-process generator is not among them: it reads the trainer's own weights.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from megatron_redone.checkpoint.hf_folder import SafetensorsFolder
from megatron_redone.common.errors import ConfigError
from megatron_redone.config.base import StrictModel
from megatron_redone.generation.config import GenerationConfig, ServersConfig, VLLMConfig
from megatron_redone.generation.factory import engine_for_model
from megatron_redone.generation.weight_stream import CheckedStream
from megatron_redone.models.families import read_shape
from megatron_redone.models.presets import get_preset
from megatron_redone.models.weights import RandomWeights
from megatron_redone.parallel.config import ParallelConfig
from megatron_redone.parallel.context import ParallelContext
from megatron_redone.training.engine import MegatronEngine

COPY = "copy"
WAYS = (COPY, "export", "checked", "vllm", "servers")


class SyncBenchmarkConfig(StrictModel):
    """Which weights go which ways."""

    preset: str | None = None
    """Shape by name, with random weights; give this or `model`."""
    model: Path | None = None
    """Hugging Face model folder."""
    ways: tuple[str, ...] = (COPY, "export", "checked")
    """copy: each tensor into memory of its own, the limit. export: the trainer's parts joined to whole Hugging Face
    tensors. checked: that, every name, shape and bit checked. vllm: into an engine in this process. servers: into those
    of `servers`."""
    rounds: int = Field(3, ge=1)
    """Rounds that are measured, after one that is not."""
    seed: int = 0
    parallel: ParallelConfig = ParallelConfig()
    vllm: VLLMConfig = VLLMConfig()
    servers: ServersConfig = ServersConfig()

    def rule_violations(self) -> Iterator[str]:
        """One model; ways that there are; servers to send to, and a way to them."""
        if (self.preset is None) == (self.model is None):
            yield f"preset={self.preset} and model={self.model}: give exactly one of them"
        unknown = [name for name in self.ways if name not in WAYS]
        if unknown or len(set(self.ways)) < len(self.ways) or self.ways[:1] != (COPY,):
            yield f"ways={','.join(self.ways)}: give {COPY} first, then some of {', '.join(WAYS[1:])}, each once"
        if "servers" in self.ways and not self.servers.urls:
            yield "servers.urls=(): the way `servers` needs at least one address; start one with `redone serve`"
        elif "servers" in self.ways and self.servers.transfer == "files" and self.servers.transfer_folder is None:
            yield (
                "servers.transfer=files without servers.transfer_folder: nothing would be sent; name the folder that "
                "the servers see, or set servers.transfer=broadcast"
            )


@dataclass(frozen=True)
class WaySpeed:
    """One way over all rounds."""

    name: str
    seconds: tuple[float, ...]
    gigabytes_per_second: float
    """1e9 bytes of weights; the median of the rounds."""
    ratio: float
    """Seconds of this way over those of the copy: the median of the ratios of each round."""
    ratio_range: tuple[float, float]


@dataclass(frozen=True)
class SyncSpeeds:
    """What was measured."""

    bytes: int
    tensors: int
    threads: int
    ways: tuple[WaySpeed, ...]

    def as_json(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


def measure_sync(
    config: SyncBenchmarkConfig, context: ParallelContext, tell: Callable[[str], None] = lambda text: None
) -> SyncSpeeds:
    """Sends the weights every way in turn.

    Raises:
        ConfigError: several processes.
        InputError: vLLM is asked for and not installed, or a server does not answer or has another model.
    """
    if context.world_size > 1:
        raise ConfigError([f"{context.world_size} processes: the comparison is for one; leave out --nproc"])
    shape = get_preset(config.preset) if config.preset is not None else read_shape(config.model or Path())
    trainer = MegatronEngine(shape, context)
    weights: Mapping[str, Tensor] = (
        RandomWeights(shape, config.seed) if config.model is None else SafetensorsFolder(config.model)
    )
    trainer.load_hf_weights(weights, "benchmark weights")
    sizes = [tensor.numel() * tensor.element_size() for _, tensor in trainer.export_hf_weights()]
    seconds: dict[str, list[float]] = {name: [] for name in config.ways}
    with ExitStack() as open_engines:
        ways = {name: _way(name, config, trainer, context, open_engines) for name in config.ways}
        for number in range(config.rounds + 1):
            for name, send in ways.items():
                _wait(context)
                began = time.perf_counter()
                send(number + 1)
                _wait(context)
                if number:
                    seconds[name].append(time.perf_counter() - began)
            done = ", ".join(f"{name} {values[-1]:.3f} s" for name, values in seconds.items() if values)
            tell(f"round {number} of {config.rounds}: {done or 'warm-up'}")
    return SyncSpeeds(
        bytes=sum(sizes),
        tensors=len(sizes),
        threads=torch.get_num_threads(),
        ways=tuple(_speed(name, sum(sizes), values, seconds[COPY]) for name, values in seconds.items()),
    )


def _speed(name: str, size: int, seconds: list[float], copy: list[float]) -> WaySpeed:
    ratios = [taken / least for taken, least in zip(seconds, copy, strict=True)]
    return WaySpeed(
        name=name,
        seconds=tuple(seconds),
        gigabytes_per_second=statistics.median(size / taken / 1e9 for taken in seconds),
        ratio=statistics.median(ratios),
        ratio_range=(min(ratios), max(ratios)),
    )


def _way(
    name: str, config: SyncBenchmarkConfig, trainer: MegatronEngine, context: ParallelContext, stack: ExitStack
) -> Callable[[int], None]:
    if name == COPY:
        held = [(tensor, torch.empty_like(tensor)) for _, tensor in trainer.export_hf_weights()]
        return lambda version: _copy(held)
    if name == "export":
        return lambda version: _read(trainer.export_hf_weights())
    if name == "checked":
        return lambda version: _check(CheckedStream(trainer.export_hf_weights(), trainer.shape, "benchmark weights"))
    generation = GenerationConfig(
        engine="vllm" if name == "vllm" else "servers",
        vllm=config.vllm,
        servers=config.servers,
        max_prompt_tokens=8,
        max_new_tokens=8,
    )
    engine = engine_for_model(generation, trainer.model, context, trainer.export_hf_weights)
    stack.callback(engine.close)
    return lambda version: engine.update_weights(trainer.export_hf_weights(), version)


def _copy(held: Iterable[tuple[Tensor, Tensor]]) -> None:
    for source, target in held:
        target.copy_(source)


def _read(stream: Iterable[tuple[str, Tensor]]) -> None:
    for _ in stream:
        pass


def _check(stream: CheckedStream) -> None:
    stream.drain()
    stream.finish()


def _wait(context: ParallelContext) -> None:
    if context.device.type == "cuda":
        torch.cuda.synchronize(context.device)
