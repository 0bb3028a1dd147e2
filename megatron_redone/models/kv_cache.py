"""The key-value cache of generation.

Shape legend: B cached sequences, K key-value heads, S cache length, D head dim (all per tensor-parallel rank).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor


@dataclass
class KVCache:
    """Rotated keys and values of B sequences, by layer number: [B, K, S, D] each."""

    num_sequences: int
    max_tokens: int
    layers: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)

    def layer(self, number: int, like_TKD: Tensor) -> tuple[Tensor, Tensor]:
        """The buffers of a layer, made at its first use with the heads and type of `like_TKD`."""
        if number not in self.layers:
            shape = (self.num_sequences, like_TKD.size(1), self.max_tokens, like_TKD.size(2))
            self.layers[number] = (like_TKD.new_zeros(shape), like_TKD.new_zeros(shape))
        return self.layers[number]

    def repeat_sequences(self, repeats: int) -> None:
        """Makes `repeats` adjacent copies of every sequence (one prompt, several samples)."""
        self.num_sequences *= repeats
        self.layers = {
            number: (keys.repeat_interleave(repeats, 0), values.repeat_interleave(repeats, 0))
            for number, (keys, values) in self.layers.items()
        }

    def keep_sequences(self, index_B: Tensor) -> None:
        """Keeps the sequences at these places (finished ones leave)."""
        self.num_sequences = index_B.numel()
        self.layers = {
            number: (keys.index_select(0, index_B), values.index_select(0, index_B))
            for number, (keys, values) in self.layers.items()
        }
