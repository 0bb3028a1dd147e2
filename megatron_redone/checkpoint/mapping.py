"""Kinds of ties between Hugging Face tensors and Megatron parameters.

A row of a family's `param_mappings` names one Megatron parameter and the Hugging Face tensors it is made of. The
row alone knows how to cut the parameter for a tensor-parallel rank and how to join the cuts again; both
directions copy values, so a round trip is bitwise.

Imports no torch until tensors are joined: the families' tables stand beside their readers of config.json, which a
login node uses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol

if TYPE_CHECKING:
    from torch import Tensor


class ParamMapping(Protocol):
    """One Megatron parameter and the Hugging Face tensors it holds."""

    @property
    def megatron(self) -> str:
        """Name in the whole (unsplit) Megatron model."""
        ...

    @property
    def hf(self) -> tuple[str, ...]:
        """Names of the Hugging Face tensors."""
        ...

    @property
    def expert(self) -> int | None:
        """Number of the expert the parameter belongs to; None outside experts."""
        ...

    @property
    def split_dim(self) -> int | None:
        """The dimension along which tensor-parallel ranks have their parts; None where each has the whole."""
        ...

    @property
    def stacked(self) -> int:
        """So many matrices stand one over the other in a part, each cut for itself."""
        ...

    @property
    def is_exported(self) -> bool:
        """Whether Hugging Face tensors are made of it; not of a copy that Megatron keeps for itself."""
        ...

    def to_megatron(self, tensors: Mapping[str, Tensor], rank: int, size: int) -> Tensor:
        """The part of tensor-parallel rank `rank` of `size`, from whole Hugging Face tensors."""
        ...

    def to_hf(self, parts: Sequence[Tensor]) -> dict[str, Tensor]:
        """The whole Hugging Face tensors from the parts of all tensor-parallel ranks in order.

        They may share memory with a part.
        """
        ...


def _joined(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    import torch

    return tensors[0] if len(tensors) == 1 else torch.cat(list(tensors), dim)


@dataclass(frozen=True)
class Plain:
    """The same tensor on both sides, cut along `split_dim` (None: every rank has the whole)."""

    megatron: str
    hf_name: str
    split_dim: int | None = None
    expert: int | None = None
    stacked: ClassVar[int] = 1
    is_exported: ClassVar[bool] = True

    @property
    def hf(self) -> tuple[str, ...]:
        """The one Hugging Face name."""
        return (self.hf_name,)

    def to_megatron(self, tensors: Mapping[str, Tensor], rank: int, size: int) -> Tensor:
        """A slice, or the whole tensor."""
        tensor = tensors[self.hf_name]
        return tensor if self.split_dim is None else tensor.chunk(size, self.split_dim)[rank]

    def to_hf(self, parts: Sequence[Tensor]) -> dict[str, Tensor]:
        """The slices joined."""
        whole = parts[0] if self.split_dim is None else _joined(parts, self.split_dim)
        return {self.hf_name: whole}


@dataclass(frozen=True)
class QKV:
    """Query, key and value in one parameter, ordered by key-value head: its query heads, its key, its value.

    Works for weights [out, hidden] and biases [out].
    """

    megatron: str
    query: str
    key: str
    value: str
    num_heads: int
    num_kv_heads: int
    head_dim: int
    expert: int | None = None
    split_dim: ClassVar[int] = 0
    stacked: ClassVar[int] = 1
    is_exported: ClassVar[bool] = True

    @property
    def hf(self) -> tuple[str, ...]:
        """Query, key, value."""
        return (self.query, self.key, self.value)

    def to_megatron(self, tensors: Mapping[str, Tensor], rank: int, size: int) -> Tensor:
        """The interleaved heads of the rank's key-value heads."""
        rest = tensors[self.query].shape[1:]
        query, key, value = (
            tensors[name].view(self.num_kv_heads, -1, *rest) for name in (self.query, self.key, self.value)
        )
        joined = _joined([query, key, value], dim=1)
        return joined.chunk(size, 0)[rank].reshape(-1, *rest)

    def to_hf(self, parts: Sequence[Tensor]) -> dict[str, Tensor]:
        """The three tensors with heads in Hugging Face's order."""
        rest = parts[0].shape[1:]
        joined = _joined([part.reshape(self.num_kv_heads // len(parts), -1, *rest) for part in parts])
        queries = self.num_heads // self.num_kv_heads * self.head_dim
        query, key, value = joined.split([queries, self.head_dim, self.head_dim], dim=1)
        return {
            name: tensor.reshape(-1, *rest).contiguous()
            for name, tensor in zip(self.hf, (query, key, value), strict=True)
        }


@dataclass(frozen=True)
class GatedMLP:
    """Gate and up projection in one parameter; every rank holds [its gate rows; its up rows]."""

    megatron: str
    gate: str
    up: str
    expert: int | None = None
    split_dim: ClassVar[int] = 0
    stacked: ClassVar[int] = 2
    is_exported: ClassVar[bool] = True

    @property
    def hf(self) -> tuple[str, ...]:
        """Gate, up."""
        return (self.gate, self.up)

    def to_megatron(self, tensors: Mapping[str, Tensor], rank: int, size: int) -> Tensor:
        """The rank's rows of gate, then of up."""
        return _joined([tensors[name].chunk(size, 0)[rank] for name in self.hf])

    def to_hf(self, parts: Sequence[Tensor]) -> dict[str, Tensor]:
        """Gate and up whole."""
        halves = [part.chunk(2, 0) for part in parts]
        return {self.gate: _joined([h[0] for h in halves]), self.up: _joined([h[1] for h in halves])}


@dataclass(frozen=True)
class PaddedVocabulary:
    """Embedding or head [vocabulary, hidden], padded with zero rows to a multiple of tp and cut by rows."""

    megatron: str
    hf_name: str
    vocab_size: int
    expert: int | None = None
    split_dim: ClassVar[int] = 0
    stacked: ClassVar[int] = 1
    is_exported: ClassVar[bool] = True

    @property
    def hf(self) -> tuple[str, ...]:
        """The one Hugging Face name."""
        return (self.hf_name,)

    def to_megatron(self, tensors: Mapping[str, Tensor], rank: int, size: int) -> Tensor:
        """The rank's rows, zeros where there is no token."""
        tensor = tensors[self.hf_name]
        missing = -self.vocab_size % size
        if missing:
            tensor = _joined([tensor, tensor.new_zeros(missing, tensor.size(1))])
        return tensor.chunk(size, 0)[rank]

    def to_hf(self, parts: Sequence[Tensor]) -> dict[str, Tensor]:
        """The rows of real tokens."""
        return {self.hf_name: _joined(parts)[: self.vocab_size]}


@dataclass(frozen=True)
class TiedHead(PaddedVocabulary):
    """The copy of a tied embedding that the last pipeline stage keeps as its output layer; never exported."""

    is_exported: ClassVar[bool] = False

    def to_hf(self, parts: Sequence[Tensor]) -> dict[str, Tensor]:
        """Nothing: the embedding itself is exported."""
        return {}
