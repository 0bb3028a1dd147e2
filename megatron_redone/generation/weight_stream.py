"""Checks of weights that are handed from one engine to another: names, shapes, and a digest of every bit.

The digest is integer arithmetic on the bits, so it is the same on every device, and quick enough for every update.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence

import torch
from torch import Tensor

from megatron_redone.common.errors import CheckpointError
from megatron_redone.models.config import ModelShape
from megatron_redone.models.weights import hf_shapes

MAX_SHOWN = 8
_BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
_PIECE = 1 << 22
"""Elements of which the bits are summed at once: bounds the memory for their 64-bit copies."""


def tensor_digest(name: str, tensor: Tensor) -> str:
    """Name, type, shape, and two sums modulo 2^64 over the elements' bits: plain, and weighted by odd numbers of the
    places, so that a changed, moved or swapped element shows."""
    bits = tensor.detach().contiguous().view(-1).view(_BITS[tensor.element_size()])
    plain = weighted = 0
    for start in range(0, bits.numel(), _PIECE):
        piece = bits[start : start + _PIECE].to(torch.int64)
        places = torch.arange(start, start + piece.numel(), dtype=torch.int64, device=piece.device)
        plain += int(piece.sum())
        weighted += int((piece * (2 * places + 1)).sum())
    sums = f"{plain % 2**64:016x}{weighted % 2**64:016x}"
    return f"{name} {str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)} {sums}"


class WeightDigest:
    """Digest of a set of named tensors, whatever the order they come in."""

    def __init__(self) -> None:
        self._tensors: dict[str, str] = {}

    def add(self, name: str, tensor: Tensor) -> None:
        """Counts a tensor in."""
        self._tensors[name] = tensor_digest(name, tensor)

    @property
    def value(self) -> str:
        """Hex digest of all that were added."""
        text = "\n".join(self._tensors[name] for name in sorted(self._tensors))
        return hashlib.sha256(text.encode()).hexdigest()


class CheckedStream:
    """A stream of weights that lets through only what the model has, and knows at its end what was wrong with it.

    Iterate it to the end, whatever it found: the source may be a collective. Then call `finish`.

    Args:
        stream: (Hugging Face name, whole tensor).
        shape: the model that takes them.
        source: what errors call the stream.
    """

    def __init__(self, stream: Iterable[tuple[str, Tensor]], shape: ModelShape, source: str) -> None:
        self.stream, self.source = iter(stream), source
        self.expected: Mapping[str, tuple[int, ...]] = hf_shapes(shape)
        self.tied = shape.tie_embeddings
        self.digest = WeightDigest()
        self.problems: list[str] = []
        self._seen: set[str] = set()

    def __iter__(self) -> Iterator[tuple[str, Tensor]]:
        for name, tensor in self.stream:
            if self.tied and name == "lm_head.weight":
                continue  # a copy of the embedding
            problem = self._problem(name, tensor)
            if problem is not None:
                self.problems.append(problem)
                continue
            self._seen.add(name)
            self.digest.add(name, tensor)
            yield name, tensor

    def _problem(self, name: str, tensor: Tensor) -> str | None:
        if name not in self.expected:
            return f"{name}: the model has no such tensor"
        if name in self._seen:
            return f"{name}: came twice"
        if tuple(tensor.shape) != self.expected[name]:
            return f"{name}: shape {tuple(tensor.shape)}, the model has {self.expected[name]}"
        if not tensor.is_floating_point():
            return f"{name}: {tensor.dtype} is no type of weights"
        return None

    def drain(self) -> None:
        """Reads what is left of the stream."""
        for _ in self:
            pass

    def finish(self) -> str:
        """The digest of what came through.

        Raises:
            CheckpointError: something was wrong or is missing; all of it is listed.
        """
        wrong_shape = {problem.partition(":")[0] for problem in self.problems}
        missing = [name for name in self.expected if name not in self._seen and name not in wrong_shape]
        problems = [*self.problems, *(f"{name}: missing" for name in missing)]
        if problems:
            raise CheckpointError(listed(f"{self.source}: {len(problems)} tensors do not fit the model", problems))
        return self.digest.value


def listed(head: str, problems: Sequence[str]) -> str:
    """A sentence with the first problems under it, and how many more there are."""
    more = len(problems) - MAX_SHOWN
    shown = [*problems[:MAX_SHOWN], *([f"and {more} more"] if more > 0 else [])]
    return head + ":\n" + "\n".join(f"  - {problem}" for problem in shown)
