"""Settings of a judge's server and of the gate that a judge has to pass. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import Field

from megatron_redone.config.base import StrictModel


class ServerConfig(StrictModel):
    """A server that speaks OpenAI's chat completions over HTTP (vLLM, SGLang, llama.cpp, a hosted one)."""

    url: str
    """Up to the version, for example http://127.0.0.1:8000/v1; `/chat/completions` is put behind it."""
    model: str = Field(min_length=1)
    """The name that the server knows the model by."""
    api_key_file: Path | None = None
    """File whose text is the key; the key itself stands in no setting, log or manifest."""
    temperature: float = Field(0.0, ge=0)
    max_tokens: int = Field(1024, ge=1)
    """Longest reply, in tokens."""
    concurrency: int = Field(8, ge=1)
    """Requests under way at once."""
    timeout_seconds: float = Field(120.0, gt=0)
    """Longest wait for the connection, and for each piece of the reply."""
    max_attempts: int = Field(6, ge=1)
    """So often one request is sent before the run stops (429, 5xx, time-outs, broken connections and replies)."""
    first_wait_seconds: float = Field(1.0, ge=0)
    """Wait after the first failed attempt; it doubles from attempt to attempt. `Retry-After` goes before it."""
    max_wait_seconds: float = Field(60.0, ge=0)
    cache: Path | None = None
    """File of replies by the hash of the request, shared by runs; by default one that lives as long as the stage."""
    price_per_million_prompt_tokens: float = Field(0.0, ge=0)
    """In any currency, for the cost in the counts; the next likewise."""
    price_per_million_completion_tokens: float = Field(0.0, ge=0)

    def rule_violations(self) -> Iterator[str]:
        """An address that can be asked."""
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            yield f"url={self.url!r} must start with http:// or https:// and name a host"


class GateConfig(StrictModel):
    """What a judge must show on pairs that people labelled before it may label others.

    Accuracy and kappa pass by the LOWER end of their bootstrap interval, the others by their value.
    """

    min_pairs: int = Field(100, ge=2)
    """Fewer labelled pairs show nothing."""
    min_accuracy: float = Field(0.7, ge=0, le=1)
    """Share of the pairs on which judge and people say the same."""
    min_kappa: float = Field(0.4, ge=-1, le=1)
    """Cohen's kappa over a, b and tie (0.4: where Landis and Koch 1977 begin to speak of moderate agreement)."""
    max_position_disagreement: float = Field(0.3, ge=0, le=1)
    """Share of the pairs whose two orders get different verdicts."""
    min_decided: float = Field(0.5, ge=0, le=1)
    """Share of the pairs that the judge decides, which is what it will label of others."""
    leave_out_ties: bool = False
    """Accuracy and kappa over the pairs that judge and people decide; otherwise a tie is a label like a and b."""
    level: float = Field(0.95, gt=0, lt=1)
    num_resamples: int = Field(2000, ge=100)


class ScoringConfig(StrictModel):
    """How answers are scored."""

    num_workers: int = Field(0, ge=0)
    """Processes; 0 scores in the process that asks, without deadlines."""
    deadline_seconds: float = Field(10.0, gt=0)
    """Longest time for one answer; a later one scores 0 and is counted."""
