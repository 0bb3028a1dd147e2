"""The shape of a model and where its weights come from. Imports no torch."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from megatron_redone.config.artefact import OptionalArtefact
from megatron_redone.config.base import StrictModel
from megatron_redone.parallel.config import ParallelConfig
from megatron_redone.parallel.gpu_config import gpu_model_problems

FamilyName = Literal["llama", "qwen2_5", "qwen3", "qwen3_moe"]


class ModelShape(StrictModel):
    """Everything that fixes a decoder's parameters and its function, read from or written to config.json."""

    family: FamilyName
    num_layers: int
    hidden_size: int
    ffn_hidden_size: int
    """Width of the gated MLP of a dense layer (unused where every layer has experts)."""
    num_heads: int
    num_kv_heads: int
    head_dim: int
    vocab_size: int
    """Rows of the embedding in the Hugging Face checkpoint (may exceed the tokenizer's ids)."""
    rope_theta: float = 10_000.0
    norm_epsilon: float = 1e-6
    tie_embeddings: bool = False
    max_positions: int = 32_768
    num_experts: int = 0
    experts_per_token: int = 0
    moe_ffn_hidden_size: int = 0
    router_aux_loss_coefficient: float = 0.0
    router_z_loss_coefficient: float = 0.0
    """Set by the optimizer's settings; config.json has no field for it."""

    @property
    def qkv_bias(self) -> bool:
        """Whether query, key and value projections have a bias (Qwen2.5)."""
        return self.family == "qwen2_5"

    @property
    def qk_norm(self) -> bool:
        """Whether queries and keys are RMS-normalised per head (Qwen3)."""
        return self.family in ("qwen3", "qwen3_moe")

    @property
    def is_moe(self) -> bool:
        """Whether the layers have experts."""
        return self.num_experts > 0

    @model_validator(mode="after")
    def _consistent(self) -> ModelShape:
        if self.num_heads % self.num_kv_heads:
            raise ValueError(
                f"num_heads={self.num_heads} is not divisible by num_kv_heads={self.num_kv_heads}; "
                "each key-value head serves a whole number of query heads"
            )
        if self.head_dim % 2:
            raise ValueError(f"head_dim={self.head_dim} is odd; rotary embedding turns pairs, use an even one")
        if (self.family == "qwen3_moe") != self.is_moe:
            raise ValueError(f"family {self.family} with num_experts={self.num_experts}; only qwen3_moe has experts")
        if self.is_moe and not 0 < self.experts_per_token <= self.num_experts:
            raise ValueError(f"experts_per_token={self.experts_per_token} must be in 1..{self.num_experts}")
        return self

    def num_parameters(self, *, active: bool = False) -> int:
        """Parameters in all (a tied embedding counts once); with `active` those that one token meets."""
        h, heads, kv = self.hidden_size, self.num_heads * self.head_dim, self.num_kv_heads * self.head_dim
        attention = h * (heads + 2 * kv) + heads * h
        attention += (heads + 2 * kv) if self.qkv_bias else 0
        attention += 2 * self.head_dim if self.qk_norm else 0
        if self.is_moe:
            experts = self.experts_per_token if active else self.num_experts
            mlp = experts * 3 * h * self.moe_ffn_hidden_size + h * self.num_experts
        else:
            mlp = 3 * h * self.ffn_hidden_size
        embeddings = self.vocab_size * h * (1 if self.tie_embeddings else 2)
        return self.num_layers * (attention + mlp + 2 * h) + h + embeddings

    def layout_problems(self, parallel: ParallelConfig) -> list[str]:
        """Which axes do not divide this model, or are known to train it wrongly; empty when the layout fits."""
        tp, ep, etp, chunks = parallel.tp, parallel.ep, parallel.etp, parallel.pp * parallel.vpp
        checks = [
            ("num_heads", self.num_heads, "tp", tp),
            ("num_kv_heads", self.num_kv_heads, "tp", tp),
            ("num_layers", self.num_layers, "pp" if parallel.vpp == 1 else "pp * vpp", chunks),
        ]
        if self.is_moe:
            checks.append(("num_experts", self.num_experts, "ep", ep))
            checks.append(("moe_ffn_hidden_size", self.moe_ffn_hidden_size, "etp", etp))
        else:
            checks.append(("ffn_hidden_size", self.ffn_hidden_size, "tp", tp))
        found = [
            f"{name}={value} is not divisible by parallel.{axis}={size}; choose a divisor of {value}"
            for name, value, axis, size in checks
            if value % size
        ]
        if self.is_moe and (ep * etp) % tp:
            # Megatron then keeps whole copies of experts on several tensor-parallel ranks that each see a part of
            # the tokens, and does not add up their gradients.
            found.append(
                f"parallel.ep * etp = {ep} * {etp} is not divisible by parallel.tp={tp} with experts: their gradients "
                f"would be wrong; set etp={tp}, or ep to a multiple of {tp}"
            )
        if self.is_moe and tp > 1 and parallel.sequence_parallel is False:
            found.append(
                f"parallel.sequence_parallel=false with experts and parallel.tp={tp}: Megatron-core trains experts "
                "under tensor parallelism only with it; leave it out or set it to true"
            )
        if not self.is_moe and ep > 1:
            found.append(f"parallel.ep={ep} with a dense {self.family} model; experts are needed, set ep=1")
        if not self.is_moe and etp > 1:
            found.append(f"parallel.etp={etp} with a dense {self.family} model; experts are needed, set etp=1")
        return found + gpu_model_problems(parallel, self.num_layers, self.is_moe)


class ModelConfig(StrictModel):
    """Which model a stage starts from: exactly one of `preset` (random weights) and `path` (a checkpoint)."""

    preset: str | None = None
    """Name of a shape in `models/presets.py`, initialised at random as a function of the seed."""
    path: OptionalArtefact = None
    """A Hugging Face model folder (a path with a slash in it, relative to the recipe file) or a stage with a model."""
    vocab_size: int | None = None
    """Overrides the preset's vocabulary size; by default that of the tokenizer."""

    @model_validator(mode="after")
    def _one_source(self) -> ModelConfig:
        if (self.preset is None) == (self.path is None):
            raise ValueError("give exactly one of model.preset (random weights) and model.path (a checkpoint folder)")
        return self
