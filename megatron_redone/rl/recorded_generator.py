"""A generation engine that keeps its completions on disk until they are no longer needed.

A rollout can take hours. When a run ends in the middle of one, it goes on from its last checkpoint, draws the same
prompts, and finds here what was sampled for them already. A batch is found by the version of the weights, the settings
of sampling, the keys and the prompts, so nothing else can be taken for it.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from megatron_redone.common.files import atomic_write_bytes
from megatron_redone.common.logging import get_logger
from megatron_redone.generation.base import Completion, GenerationEngine, SamplingParams
from megatron_redone.parallel.context import ParallelContext
from megatron_redone.training.stop import agreed_stop, stopped

LOG = get_logger("rollout")


class RecordedGenerator:
    """Gives recorded completions where they are on disk, else the engine's, which rank 0 records.

    Attributes:
        recalled: batches that were found on disk.
    """

    def __init__(self, engine: GenerationEngine, folder: Path, context: ParallelContext) -> None:
        self.engine, self.folder, self.context = engine, folder, context
        self.recalled = self._batches = self._version = 0
        self._progressed = False  # the first rollout of a start is finished in any case, so that every start gets on

    def generate(
        self, prompts: Sequence[Sequence[int]], params: SamplingParams, keys: Sequence[str]
    ) -> list[list[Completion]]:
        """As the engine's.

        Raises:
            Interrupted: a stop was asked for between two batches of a rollout that is not the first one; what was
                sampled stays.
        """
        stop = agreed_stop(self.context) if self._batches and self._progressed else 0
        if stop:
            raise stopped(
                f"in the middle of rollout {self._version}, whose {self._batches} batch(es) of answers are kept",
                stop,
            )
        path = self.folder / f"{self._version:06d}-{_hash(prompts, params, keys)}.safetensors"
        completions = self.context.on_main(lambda: _read(path))
        if completions is None:
            completions = self.engine.generate(prompts, params, keys)
            written = completions
            self.context.on_main(lambda: _write(path, written))
        else:
            self.recalled += 1
        self._batches += 1
        return completions

    def update_weights(self, stream: Iterable[tuple[str, Any]], version: int) -> None:
        """Hands the weights on; a new rollout begins."""
        self._progressed = self._progressed or self._batches > 0
        self._version, self._batches = version, 0
        self.engine.update_weights(stream, version)

    def sleep(self) -> None:
        """The engine's."""
        self.engine.sleep()

    def wake_up(self) -> None:
        """The engine's."""
        self.engine.wake_up()

    def forget_before(self, version: int) -> None:
        """Removes what was sampled with older weights."""
        if self.context.is_main:
            for path in self.folder.glob("*.safetensors"):
                if int(path.name.partition("-")[0]) < version:
                    path.unlink()

    def close(self) -> None:
        """Frees the engine."""
        self.engine.close()

    def forget(self) -> None:
        """Removes all that was recorded."""
        if self.context.is_main:
            shutil.rmtree(self.folder, ignore_errors=True)


def _hash(prompts: Sequence[Sequence[int]], params: SamplingParams, keys: Sequence[str]) -> str:
    asked = [[list(map(int, prompt)) for prompt in prompts], asdict(params), list(keys)]
    return hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:32]


def _write(path: Path, completions: Sequence[Sequence[Completion]]) -> None:
    flat = [completion for samples in completions for completion in samples]
    experts = [one.experts for one in flat if one.experts is not None]
    chosen = (
        {"experts": np.concatenate(experts), "inputs": np.asarray([len(one) for one in experts])} if experts else {}
    )
    content = save(
        {
            **chosen,
            "samples": np.asarray([len(samples) for samples in completions], dtype=np.int64),
            "lengths": np.asarray([len(one.token_ids) for one in flat], dtype=np.int64),
            "versions": np.asarray([one.version for one in flat], dtype=np.int64),
            "stopped": np.asarray([one.finish_reason == "stop" for one in flat], dtype=np.bool_),
            "token_ids": np.asarray([token for one in flat for token in one.token_ids], dtype=np.int32),
            "logprobs": np.asarray([value for one in flat for value in one.logprobs], dtype=np.float64),
        }
    )
    atomic_write_bytes(path, content)


def _read(path: Path) -> list[list[Completion]] | None:
    """The completions of a file; None where it is not there or damaged."""
    if not path.is_file():
        return None
    try:
        arrays = load_file(path)
        inputs = np.cumsum(arrays.pop("inputs", np.zeros(0, dtype=np.int64)))[:-1]
        choices = np.split(arrays.pop("experts"), inputs) if "experts" in arrays else None
        found = {name: array.tolist() for name, array in arrays.items()}
        completions, start = list[Completion](), 0
        for length, ended, version in zip(found["lengths"], found["stopped"], found["versions"], strict=True):
            part = slice(start, start + length)
            start += length
            ids, logprobs = tuple(found["token_ids"][part]), tuple(found["logprobs"][part])
            experts = choices[len(completions)] if choices is not None else None
            completions.append(Completion(ids, logprobs, "stop" if ended else "length", version, experts))
        rest = iter(completions)
        return [[next(rest) for _ in range(count)] for count in found["samples"]]
    except (OSError, ValueError, KeyError, IndexError, StopIteration, SafetensorError) as error:
        LOG.warning("%s: damaged (%s); it is sampled again", path, error)
        return None
