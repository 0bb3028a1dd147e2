"""What a layout proof runs: one model, one batch, one layout. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from megatron_redone.config.base import StrictModel
from megatron_redone.models.config import FamilyName, ModelShape
from megatron_redone.parallel.config import ParallelConfig

ObjectiveName = Literal["next_token", "dpo", "dpo_all", "dapo", "dapo_all"]
"""`dpo_all` and `dapo_all` have every option of their objective that reads a signal of its own."""


class LayoutCase(StrictModel):
    """One layout beside one process, on the same weights and documents."""

    family: FamilyName
    layout: ParallelConfig = ParallelConfig()
    dp: int = Field(1, ge=1)
    """Data-parallel size."""
    objective: ObjectiveName = "next_token"
    microbatches: int = Field(2, ge=1)
    """Micro-batches of the global batch, over all replicas. One process gets all documents in a single one."""
    labels: Literal["uneven", "one"] = "uneven"
    """Whether documents have labels on some of their tokens, or a single token of the whole batch has one."""
    tie_embeddings: bool | None = None
    """By default as the family's small models have it."""
    aux_loss: float = Field(0.0, ge=0)
    """Coefficient of the experts' load-balancing loss. It is no sum over tokens, so one process then gets the same
    micro-batches."""
    z_loss: float = Field(0.0, ge=0)
    """Coefficient of the routers' z-loss."""
    steps: int = Field(4, ge=1)

    @property
    def world_size(self) -> int:
        """Ranks of the layout."""
        return self.layout.tp * self.layout.pp * self.layout.cp * self.dp

    @property
    def line(self) -> str:
        """The case as `verification/cases.py` reads it: what differs from the defaults."""
        own = {name: value for name, value in self if name not in ("family", "layout", "dp")}
        options = [f"{name}={_text(value)}" for name, value in own.items() if value != LayoutCase.default(name)]
        sizes = [f"{name}={_text(value)}" for name, value in self.layout if value != getattr(ParallelConfig(), name)]
        return " ".join([self.family, ",".join([*sizes, f"dp={self.dp}"]), *options])

    @classmethod
    def default(cls, name: str) -> object:
        """The default of a field."""
        return cls.model_fields[name].default

    def shape(self) -> ModelShape:
        """A small model of the family that every layout of up to four ranks on an axis divides."""
        family = self.family
        tied = self.tie_embeddings if self.tie_embeddings is not None else family in ("qwen2_5", "qwen3")
        experts = {"num_experts": 4, "experts_per_token": 2, "moe_ffn_hidden_size": 24} if family == "qwen3_moe" else {}
        return ModelShape(
            family=family,
            num_layers=4,
            hidden_size=32,
            ffn_hidden_size=64,
            num_heads=8,
            num_kv_heads=4,
            head_dim=8 if family in ("llama", "qwen2_5") else 16,
            vocab_size=99,
            rope_theta=1e4,
            tie_embeddings=tied,
            **experts,
        )

    def problems(self) -> list[str]:
        """Why the layout cannot be; empty when it can."""
        return self.layout.problems(self.world_size) or self.shape().layout_problems(self.layout)

    def rule_violations(self) -> Iterator[str]:
        """Options that need another one."""
        for name in ("aux_loss", "z_loss"):
            if getattr(self, name) and self.family != "qwen3_moe":
                yield f"{name}={getattr(self, name)} with family={self.family}: it has no experts; use qwen3_moe"
        if self.labels == "one" and self.objective in ("dpo", "dpo_all"):
            told = "every answer of a pair needs a label; use next_token or dapo"
            yield f"labels=one with objective={self.objective}: {told}"


class ResumeCase(StrictModel):
    """A checkpoint of one layout and its continuation on the same or another one."""

    family: FamilyName
    save: ParallelConfig = ParallelConfig()
    save_dp: int = Field(1, ge=1)
    """Data-parallel size of the layout that writes the checkpoint."""
    load: ParallelConfig = ParallelConfig()
    load_dp: int = Field(1, ge=1)
    """Data-parallel size of the layout that goes on from it."""
    objective: ObjectiveName = "next_token"
    steps_before: int = Field(3, ge=1)
    steps_after: int = Field(20, ge=1)

    @property
    def same_layout(self) -> bool:
        """Whether the continuation has to agree in every bit."""
        return self.save == self.load and self.save_dp == self.load_dp

    @property
    def line(self) -> str:
        """The case in one line, as `verification/cases.py` reads it."""
        save, load = self.layout_case("save"), self.layout_case("load")
        own = [f"{name}={getattr(self, name)}" for name in ("objective", "steps_before", "steps_after")]
        usual = ["objective=next_token", "steps_before=3", "steps_after=20"]
        words = [self.family, save.line.split()[1], load.line.split()[1]]
        return " ".join([*words, *(text for text in own if text not in usual)])

    def layout_case(self, side: Literal["save", "load"]) -> LayoutCase:
        """One side as a case of the layout proof: the same model and documents."""
        layout, dp = (self.save, self.save_dp) if side == "save" else (self.load, self.load_dp)
        return LayoutCase(family=self.family, layout=layout, dp=dp, objective=self.objective, microbatches=3)


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
