"""`complete(messages) -> text` over HTTP: OpenAI's chat completions, with retries, a cache and counts.

The standard library's client is enough for one kind of POST request, and honours the usual proxy settings.
"""

from __future__ import annotations

import http.client
import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from megatron_redone.common.errors import InputError, RedoneError
from megatron_redone.common.logging import get_logger
from megatron_redone.common.seeding import rng
from megatron_redone.scoring.completion_cache import CompletionCache, content_hash
from megatron_redone.scoring.config import ServerConfig

LOG = get_logger("judge")
MAX_SHOWN = 300


class ServerError(RedoneError):
    """The server gave no usable reply in all attempts; what was answered before is in the cache."""


@dataclass
class Usage:
    """What was asked and what it took, in requests and tokens (as the server counts them)."""

    requests: int = 0
    """Sent to the server, retries among them."""
    retries: int = 0
    cache_hits: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0

    def cost(self, config: ServerConfig) -> float:
        """By the prices of the settings."""
        return (
            self.prompt_tokens * config.price_per_million_prompt_tokens
            + self.completion_tokens * config.price_per_million_completion_tokens
        ) / 1e6


class _Retriable(Exception):
    def __init__(self, reason: str, wait_seconds: float | None = None) -> None:
        super().__init__(reason)
        self.wait_seconds = wait_seconds


class CompletionServer:
    """A client that threads may share.

    Args:
        cache: replies that are not asked for again; None asks always.
        sleep: waits so many seconds between attempts.

    Raises:
        InputError: the file of the key cannot be read or is empty.
    """

    def __init__(
        self, config: ServerConfig, cache: CompletionCache | None = None, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self.config, self.cache, self.sleep = config, cache, sleep
        self.usage = Usage()
        self._lock = threading.Lock()
        self._headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if config.api_key_file is not None:
            self._headers["Authorization"] = f"Bearer {_read_key(config)}"

    def complete(self, messages: Sequence[Mapping[str, str]], sample: int = 0) -> str:
        """The reply to a conversation that ends with a user's turn.

        Args:
            sample: which of several replies to the same conversation; above 0 it goes to the server as `seed`, and
                each sample is cached by itself.

        Raises:
            InputError: the server refuses the request (4xx but 408, 409, 425 and 429): address, model or key are wrong.
            ServerError: no usable reply in `max_attempts`.
        """
        request = {
            "model": self.config.model,
            "messages": [dict(message) for message in messages],
            "temperature": self.config.temperature,
            "max_tokens": self.config.max_tokens,
        }
        if sample:
            request["seed"] = sample
        key = content_hash(request)
        known = self.cache.get(key) if self.cache is not None else None
        if known is not None:
            self._count(cache_hits=1)
            return str(known["text"])
        text, usage = self._with_retries(json.dumps(request).encode(), key)
        self._count(**usage)
        if self.cache is not None:
            self.cache.put(key, {"text": text, "model": self.config.model, **usage})
        return text

    def _with_retries(self, body: bytes, key: str) -> tuple[str, dict[str, int]]:
        for attempt in range(1, self.config.max_attempts + 1):
            self._count(requests=1, retries=int(attempt > 1))
            try:
                return _read_reply(self._post(body))
            except _Retriable as error:
                problem = error
            if attempt < self.config.max_attempts:
                wait = self._wait_seconds(attempt, key, problem.wait_seconds)
                LOG.info("%s: %s; attempt %d follows in %.1f s", self.config.url, problem, attempt + 1, wait)
                self.sleep(wait)
        raise ServerError(
            f"{self.config.url}: no reply in {self.config.max_attempts} attempts, at last: {problem}; see to the "
            "server and start the same command again: replies so far are kept"
        )

    def _wait_seconds(self, attempt: int, key: str, asked: float | None) -> float:
        """Doubling from attempt to attempt, between half and all of it so that clients do not march in step."""
        if asked is not None:
            return min(asked, self.config.max_wait_seconds)
        whole = self.config.first_wait_seconds * 2.0 ** (attempt - 1)
        return min(whole * (0.5 + 0.5 * rng("back-off", key, attempt).random()), self.config.max_wait_seconds)

    def _post(self, body: bytes) -> bytes:
        url = self.config.url.rstrip("/") + "/chat/completions"
        request = urllib.request.Request(url, data=body, headers=self._headers, method="POST")
        try:
            with urllib.request.urlopen(request, timeout=self.config.timeout_seconds) as response:
                return bytes(response.read())
        except urllib.error.HTTPError as error:
            with error:
                shown = error.read(MAX_SHOWN).decode(errors="replace").strip()
                wait = _seconds(error.headers.get("Retry-After"))
            if error.code in (408, 409, 425, 429) or error.code >= 500:
                raise _Retriable(f"status {error.code}: {shown}", wait) from error
            raise InputError(
                f"{url}: status {error.code} for model {self.config.model!r}: {shown}; check url, model and key"
            ) from error
        except (OSError, http.client.HTTPException) as error:  # refused, reset, timed out, cut off
            raise _Retriable(f"{type(error).__name__}: {error}") from error

    def _count(self, **counts: int) -> None:
        with self._lock:
            for name, count in counts.items():
                setattr(self.usage, name, getattr(self.usage, name) + count)


def _read_key(config: ServerConfig) -> str:
    assert config.api_key_file is not None
    try:
        key = config.api_key_file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"api_key_file={config.api_key_file}: {error}; give a file that holds the key") from error
    if not key or not key.isascii() or not key.isprintable():
        raise InputError(f"api_key_file={config.api_key_file}: not one line of plain characters; write the key alone")
    return key


def _read_reply(body: bytes) -> tuple[str, dict[str, int]]:
    try:
        value: Any = json.loads(body)
        text = value["choices"][0]["message"]["content"]
        usage = value.get("usage") or {}
        counts = {name: int(usage.get(name) or 0) for name in ("prompt_tokens", "completion_tokens")}
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise _Retriable(f"a reply that is no chat completion: {body[:MAX_SHOWN]!r}") from error
    if not isinstance(text, str):
        raise _Retriable(f"a reply without text: {body[:MAX_SHOWN]!r}")
    return text, counts


def _seconds(header: str | None) -> float | None:
    """`Retry-After` in seconds; None for none, and for the form with a date."""
    try:
        return None if header is None else max(float(header), 0.0)
    except ValueError:
        return None
