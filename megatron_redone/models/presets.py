"""Shapes by name: the models of both papers and tiny ones of each family. Imports no torch.

The large shapes are those of the published config.json files; a converter reads that file and trusts it over
this table.
"""

from __future__ import annotations

import difflib

from megatron_redone.common.errors import InputError
from megatron_redone.models.config import ModelShape


def _qwen2_5(layers: int, hidden: int, ffn: int, heads: int, kv: int, vocab: int, *, tied: bool) -> ModelShape:
    return ModelShape(
        family="qwen2_5", num_layers=layers, hidden_size=hidden, ffn_hidden_size=ffn, num_heads=heads,
        num_kv_heads=kv, head_dim=hidden // heads, vocab_size=vocab, rope_theta=1e6, tie_embeddings=tied,
    )  # fmt: skip


def _qwen3(layers: int, hidden: int, ffn: int, heads: int, kv: int, *, tied: bool) -> ModelShape:
    return ModelShape(
        family="qwen3", num_layers=layers, hidden_size=hidden, ffn_hidden_size=ffn, num_heads=heads,
        num_kv_heads=kv, head_dim=128, vocab_size=151_936, rope_theta=1e6, tie_embeddings=tied,
        max_positions=40_960,
    )  # fmt: skip


PRESETS: dict[str, ModelShape] = {
    "qwen2.5-0.5b": _qwen2_5(24, 896, 4_864, 14, 2, 151_936, tied=True),
    "qwen2.5-1.5b": _qwen2_5(28, 1_536, 8_960, 12, 2, 151_936, tied=True),
    "qwen2.5-3b": _qwen2_5(36, 2_048, 11_008, 16, 2, 151_936, tied=True),
    "qwen2.5-14b": _qwen2_5(48, 5_120, 13_824, 40, 8, 152_064, tied=False),
    "qwen2.5-72b": _qwen2_5(80, 8_192, 29_568, 64, 8, 152_064, tied=False),
    "qwen2.5-7b": _qwen2_5(28, 3_584, 18_944, 28, 4, 152_064, tied=False),
    "qwen2.5-32b": _qwen2_5(64, 5_120, 27_648, 40, 8, 152_064, tied=False),
    "qwen3-0.6b": _qwen3(28, 1_024, 3_072, 16, 8, tied=True),
    "qwen3-1.7b": _qwen3(28, 2_048, 6_144, 16, 8, tied=True),
    "qwen3-14b": _qwen3(40, 5_120, 17_408, 40, 8, tied=False),
    "qwen3-4b": _qwen3(36, 2_560, 9_728, 32, 8, tied=True),
    "qwen3-8b": _qwen3(36, 4_096, 12_288, 32, 8, tied=False),
    "qwen3-32b": _qwen3(64, 5_120, 25_600, 64, 8, tied=False),
    "qwen3-30b-a3b": ModelShape(
        family="qwen3_moe", num_layers=48, hidden_size=2_048, ffn_hidden_size=6_144, num_heads=32, num_kv_heads=4,
        head_dim=128, vocab_size=151_936, rope_theta=1e6, max_positions=40_960, num_experts=128,
        experts_per_token=8, moe_ffn_hidden_size=768, router_aux_loss_coefficient=0.001,
    ),
    "qwen3-235b-a22b": ModelShape(
        family="qwen3_moe", num_layers=94, hidden_size=4_096, ffn_hidden_size=12_288, num_heads=64, num_kv_heads=4,
        head_dim=128, vocab_size=151_936, rope_theta=1e6, max_positions=40_960, num_experts=128,
        experts_per_token=8, moe_ffn_hidden_size=1_536, router_aux_loss_coefficient=0.001,
    ),
    "llama-3-8b": ModelShape(
        family="llama", num_layers=32, hidden_size=4_096, ffn_hidden_size=14_336, num_heads=32, num_kv_heads=8,
        head_dim=128, vocab_size=128_256, rope_theta=5e5, norm_epsilon=1e-5, max_positions=8_192,
    ),
    "llama-3-70b": ModelShape(
        family="llama", num_layers=80, hidden_size=8_192, ffn_hidden_size=28_672, num_heads=64, num_kv_heads=8,
        head_dim=128, vocab_size=128_256, rope_theta=5e5, norm_epsilon=1e-5, max_positions=8_192,
    ),
    "smollm2-135m": ModelShape(
        family="llama", num_layers=30, hidden_size=576, ffn_hidden_size=1_536, num_heads=9, num_kv_heads=3,
        head_dim=64, vocab_size=49_152, rope_theta=1e5, norm_epsilon=1e-5, tie_embeddings=True, max_positions=8_192,
    ),
    "llama-tiny": ModelShape(
        family="llama", num_layers=4, hidden_size=64, ffn_hidden_size=128, num_heads=4, num_kv_heads=2, head_dim=16,
        vocab_size=256, norm_epsilon=1e-5,
    ),
    "qwen2.5-tiny": ModelShape(
        family="qwen2_5", num_layers=4, hidden_size=64, ffn_hidden_size=128, num_heads=4, num_kv_heads=2, head_dim=16,
        vocab_size=256, rope_theta=1e6, tie_embeddings=True,
    ),
    "qwen3-tiny": ModelShape(
        family="qwen3", num_layers=4, hidden_size=64, ffn_hidden_size=128, num_heads=4, num_kv_heads=2, head_dim=32,
        vocab_size=256, rope_theta=1e6, tie_embeddings=True,
    ),
    "qwen3-moe-tiny": ModelShape(
        family="qwen3_moe", num_layers=4, hidden_size=64, ffn_hidden_size=128, num_heads=4, num_kv_heads=2,
        head_dim=32, vocab_size=256, rope_theta=1e6, num_experts=8, experts_per_token=2, moe_ffn_hidden_size=32,
    ),
    "qwen3-30m": ModelShape(  # for measurements on a CPU
        family="qwen3", num_layers=12, hidden_size=384, ffn_hidden_size=1_152, num_heads=8, num_kv_heads=4, head_dim=64,
        vocab_size=16_384, rope_theta=1e6, tie_embeddings=True, max_positions=4_096,
    ),
    "proxy-0.3m": ModelShape(  # for RegMix on a CPU: 0.3M parameters beside the embedding
        family="qwen3", num_layers=2, hidden_size=128, ffn_hidden_size=256, num_heads=4, num_kv_heads=4, head_dim=32,
        vocab_size=4_096, rope_theta=1e4, tie_embeddings=True, max_positions=2_048,
    ),
    "proxy-1m": ModelShape(  # for RegMix: 1.3M parameters beside the embedding
        family="qwen3", num_layers=2, hidden_size=256, ffn_hidden_size=512, num_heads=8, num_kv_heads=8, head_dim=32,
        vocab_size=4_096, rope_theta=1e4, tie_embeddings=True, max_positions=2_048,
    ),
    "qwen3-quickstart": ModelShape(
        family="qwen3", num_layers=4, hidden_size=256, ffn_hidden_size=576, num_heads=8, num_kv_heads=4, head_dim=32,
        vocab_size=2_048, rope_theta=1e4, tie_embeddings=True, max_positions=1_024,
    ),
}  # fmt: skip


def get_preset(name: str) -> ModelShape:
    """The shape of that name.

    Raises:
        InputError: there is none; the nearest known name is given.
    """
    if name in PRESETS:
        return PRESETS[name]
    near = difflib.get_close_matches(name, PRESETS, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(PRESETS)}"
    raise InputError(f"model.preset={name!r} is not a known shape; {hint}")
