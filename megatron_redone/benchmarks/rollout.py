"""Rollouts in tokens a second: our generator, plain transformers and vLLM, on the same model, prompts and threads.

All hold their copy of the same weights in one process and take turns, round after round, so that what else the machine
does strikes them alike; ratios are of the same round. Every sequence has the full `new_tokens` (no stop tokens): work
is equal, and what an engine gains by filling places of sequences that ended early is not measured.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from pydantic import Field
from torch import Tensor

from megatron_redone.checkpoint.hf_folder import SafetensorsFolder
from megatron_redone.common.errors import ConfigError, InputError
from megatron_redone.common.seeding import numpy_rng
from megatron_redone.config.base import StrictModel
from megatron_redone.generation.base import SamplingParams
from megatron_redone.generation.config import GenerationConfig, VLLMConfig
from megatron_redone.generation.factory import engine_for_model
from megatron_redone.models.config import ModelShape
from megatron_redone.models.families import read_shape, shape_to_hf
from megatron_redone.models.presets import get_preset
from megatron_redone.models.weights import RandomWeights
from megatron_redone.parallel.config import ParallelConfig
from megatron_redone.parallel.context import ParallelContext
from megatron_redone.training.engine import MegatronEngine

ENGINES = ("megatron", "transformers", "vllm")


class RolloutBenchmarkConfig(StrictModel):
    """What is generated, and by whom."""

    preset: str | None = None
    """Shape by name, with random weights; give this or `model`."""
    model: Path | None = None
    """Hugging Face model folder."""
    engines: tuple[str, ...] = ENGINES
    """Those that are measured; the first is what the others are compared with."""
    prompts: int = Field(32, ge=1)
    samples: int = Field(4, ge=1)
    """Sequences of each prompt."""
    prompt_tokens: int = Field(128, ge=2)
    """Longest prompt; lengths are spread evenly from half of it."""
    new_tokens: int = Field(64, ge=1)
    """Of every sequence."""
    temperature: float = Field(1.0, ge=0)
    max_sequences: int = Field(128, ge=1)
    """Sequences at once, for every engine."""
    rounds: int = Field(3, ge=1)
    """Rounds that are measured, after one that is not."""
    seed: int = 0
    parallel: ParallelConfig = ParallelConfig()
    vllm: VLLMConfig = VLLMConfig()

    def rule_violations(self) -> Iterator[str]:
        """One model; engines that there are."""
        if (self.preset is None) == (self.model is None):
            yield f"preset={self.preset} and model={self.model}: give exactly one of them"
        unknown = [name for name in self.engines if name not in ENGINES]
        if unknown or not self.engines or len(set(self.engines)) < len(self.engines):
            yield f"engines={','.join(self.engines)}: give some of {', '.join(ENGINES)}, each once"


@dataclass(frozen=True)
class EngineSpeed:
    """One engine over all rounds."""

    name: str
    start_seconds: float
    """Until it could generate, the import of its library included."""
    seconds: tuple[float, ...]
    tokens_per_second: float
    """Generated tokens; the median of the rounds."""
    ratio: float
    """To the first engine: the median of the ratios of each round."""
    ratio_range: tuple[float, float]
    same_sequences: float
    """Share of the sequences that equal the first engine's token by token; transformers draws otherwise, so it is
    telling for `temperature: 0` and between megatron and vllm."""


@dataclass(frozen=True)
class RolloutSpeeds:
    """What was measured."""

    sequences: int
    new_tokens: int
    prompt_tokens: int
    """Of all prompts together."""
    parameters: int
    threads: int
    engines: tuple[EngineSpeed, ...]

    def as_json(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


class _Generates(Protocol):
    def __call__(self, prompts: Sequence[Sequence[int]], seed: int) -> list[tuple[int, ...]]: ...


def measure_rollouts(
    config: RolloutBenchmarkConfig, context: ParallelContext, tell: Callable[[str], None] = lambda text: None
) -> RolloutSpeeds:
    """Runs the engines in turn.

    Raises:
        ConfigError: several processes.
        InputError: vLLM is asked for and not installed, or an engine cannot run the model.
    """
    if context.world_size > 1:
        raise ConfigError([f"{context.world_size} processes: the comparison is for one; leave out --nproc"])
    shape = get_preset(config.preset) if config.preset is not None else read_shape(config.model or Path())
    trainer = MegatronEngine(shape, context)
    weights: Mapping[str, Tensor] = (
        RandomWeights(shape, config.seed) if config.model is None else SafetensorsFolder(config.model)
    )
    trainer.load_hf_weights(weights, "benchmark weights")
    prompts = _prompts(config, shape)
    seconds: dict[str, list[float]] = {name: [] for name in config.engines}
    same: dict[str, list[float]] = {name: [] for name in config.engines}
    starts: dict[str, float] = {}
    with ExitStack() as open_engines:
        engines: dict[str, _Generates] = {}
        for name in config.engines:
            began = time.perf_counter()
            engines[name] = _engine(name, config, trainer, context, open_engines)
            starts[name] = time.perf_counter() - began
        for number in range(config.rounds + 1):
            first: list[tuple[int, ...]] = []
            for name, generate in engines.items():
                began = time.perf_counter()
                found = generate(prompts, config.seed + number)
                taken = time.perf_counter() - began
                _check_lengths(name, found, config)
                first = first or found
                if number:
                    seconds[name].append(taken)
                    same[name].append(statistics.fmean(a == b for a, b in zip(first, found, strict=True)))
            done = ", ".join(f"{name} {values[-1]:.2f} s" for name, values in seconds.items() if values)
            tell(f"round {number} of {config.rounds}: {done or 'warm-up'}")
    return RolloutSpeeds(
        sequences=config.prompts * config.samples,
        new_tokens=config.prompts * config.samples * config.new_tokens,
        prompt_tokens=sum(map(len, prompts)),
        parameters=sum(tensor.numel() for _, tensor in trainer.export_hf_weights()),
        threads=torch.get_num_threads(),
        engines=tuple(_speed(name, config, starts, seconds, same) for name in config.engines),
    )


def _speed(
    name: str,
    config: RolloutBenchmarkConfig,
    starts: Mapping[str, float],
    seconds: Mapping[str, Sequence[float]],
    same: Mapping[str, Sequence[float]],
) -> EngineSpeed:
    tokens = config.prompts * config.samples * config.new_tokens
    ratios = [base / own for base, own in zip(seconds[config.engines[0]], seconds[name], strict=True)]
    return EngineSpeed(
        name=name,
        start_seconds=starts[name],
        seconds=tuple(seconds[name]),
        tokens_per_second=statistics.median(tokens / taken for taken in seconds[name]),
        ratio=statistics.median(ratios),
        ratio_range=(min(ratios), max(ratios)),
        same_sequences=statistics.fmean(same[name]),
    )


def _prompts(config: RolloutBenchmarkConfig, shape: ModelShape) -> list[list[int]]:
    draw = numpy_rng(config.seed, "rollout benchmark")
    lengths = [
        round(n) for n in torch.linspace(config.prompt_tokens / 2, config.prompt_tokens, config.prompts).tolist()
    ]
    return [draw.integers(0, shape.vocab_size, size=length).tolist() for length in lengths]


def _check_lengths(name: str, found: Sequence[tuple[int, ...]], config: RolloutBenchmarkConfig) -> None:
    if [len(ids) for ids in found] != [config.new_tokens] * (config.prompts * config.samples):
        raise InputError(f"{name} did not give {config.new_tokens} tokens for every sequence; the comparison is void")


def _engine(
    name: str, config: RolloutBenchmarkConfig, trainer: MegatronEngine, context: ParallelContext, stack: ExitStack
) -> _Generates:
    if name == "transformers":
        return _TransformersRollouts(config, trainer)
    generation = GenerationConfig(
        engine="vllm" if name == "vllm" else "megatron",
        vllm=config.vllm,
        temperature=config.temperature,
        max_new_tokens=config.new_tokens,
        max_prompt_tokens=config.prompt_tokens,
        max_sequences=config.max_sequences,
    )
    engine = engine_for_model(generation, trainer.model, context, trainer.export_hf_weights)
    stack.callback(engine.close)

    def generate(prompts: Sequence[Sequence[int]], seed: int) -> list[tuple[int, ...]]:
        params = SamplingParams.of(generation, (), num_samples=config.samples, seed=seed)
        groups = engine.generate(prompts, params, [str(place) for place in range(len(prompts))])
        return [one.token_ids for group in groups for one in group]

    return generate


class _TransformersRollouts:
    """`generate` of transformers, in batches of prompts padded at the left, longest first."""

    def __init__(self, config: RolloutBenchmarkConfig, trainer: MegatronEngine) -> None:
        from transformers import AutoConfig, AutoModelForCausalLM

        self.config, context = config, trainer.context
        settings = shape_to_hf(trainer.shape, "bfloat16" if context.dtype == torch.bfloat16 else "float32")
        with torch.device(context.device):
            self.model = AutoModelForCausalLM.from_config(
                AutoConfig.for_model(**settings), dtype=context.dtype, attn_implementation="sdpa"
            )
        weights = {name: tensor.to(context.dtype) for name, tensor in trainer.export_hf_weights()}
        self.model.load_state_dict(weights, strict=not trainer.shape.tie_embeddings)
        self.model.train(False)
        self.device = context.device

    def __call__(self, prompts: Sequence[Sequence[int]], seed: int) -> list[tuple[int, ...]]:
        torch.manual_seed(seed)
        config = self.config
        drawn: dict[str, Any] = {"do_sample": False}
        if config.temperature > 0:
            drawn = {"do_sample": True, "temperature": config.temperature, "top_k": 0, "top_p": 1.0}
        at_once = max(1, config.max_sequences // config.samples)
        order = sorted(range(len(prompts)), key=lambda place: -len(prompts[place]))
        found: dict[int, list[tuple[int, ...]]] = {}
        for start in range(0, len(order), at_once):
            places = order[start : start + at_once]
            tokens, mask = self._padded([prompts[place] for place in places])
            if config.temperature == 0 and config.samples > 1:  # greedy beams are one: repeat the prompts
                tokens, mask = (part.repeat_interleave(config.samples, 0) for part in (tokens, mask))
                drawn["num_return_sequences"] = 1
            else:
                drawn["num_return_sequences"] = config.samples
            with torch.no_grad():
                output = self.model.generate(
                    input_ids=tokens,
                    attention_mask=mask,
                    max_new_tokens=config.new_tokens,
                    min_new_tokens=config.new_tokens,
                    eos_token_id=None,
                    pad_token_id=0,
                    **drawn,
                )
            rows = [tuple(row) for row in output[:, tokens.size(1) :].tolist()]
            for number, place in enumerate(places):
                found[place] = rows[number * config.samples : (number + 1) * config.samples]
        return [ids for place in range(len(prompts)) for ids in found[place]]

    def _padded(self, prompts: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        longest = max(map(len, prompts))
        tokens = torch.zeros(len(prompts), longest, dtype=torch.int64)
        mask = torch.zeros_like(tokens)
        for row, prompt in enumerate(prompts):
            tokens[row, longest - len(prompt) :] = torch.tensor(prompt)
            mask[row, longest - len(prompt) :] = 1
        return tokens.to(self.device), mask.to(self.device)
