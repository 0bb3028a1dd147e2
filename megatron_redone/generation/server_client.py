"""One rollout server as its client sees it. Imports no torch."""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.request
from typing import Any, TypeVar

from pydantic import ValidationError

from megatron_redone.common.errors import InputError, RedoneError
from megatron_redone.config.base import StrictModel
from megatron_redone.generation.protocol import (
    BroadcastRequest,
    GenerateReply,
    GenerateRequest,
    ServerInfo,
    WeightsRequest,
)

T = TypeVar("T", bound=StrictModel)
INFO_SECONDS = 5.0
MAX_SHOWN = 300


class ServerLost(RedoneError):
    """The server does not answer, or not with sense; another one may."""


class HasOtherWeights(RedoneError):
    """The server has other weights than it was asked for: it was started anew."""


class ServerClient:
    """Requests to one server; from any thread.

    Args:
        url: `http://host:port`.
        seconds: bound on a request.
    """

    def __init__(self, url: str, seconds: float) -> None:
        self.url, self.seconds = url.rstrip("/"), seconds

    def info(self) -> ServerInfo:
        """What it runs.

        Raises:
            ServerLost: it does not answer.
        """
        return self._read(ServerInfo, self._send("/info", None, INFO_SECONDS))

    def answers(self) -> bool:
        """Whether it does."""
        try:
            self.info()
        except ServerLost:
            return False
        return True

    def generate(self, request: GenerateRequest) -> GenerateReply:
        """Completions, from the weights that were asked for.

        Raises:
            InputError: the server refuses the prompts.
            HasOtherWeights, ServerLost: see there.
        """
        reply = self._read(GenerateReply, self._send("/generate", request, self.seconds))
        numbers = [len(group) for group in reply.completions]
        if numbers != [len(keys) for keys in request.keys]:
            raise ServerLost(f"{self.url}: answered {numbers} sequences, asked for {list(map(len, request.keys))}")
        if reply.weights != request.weights:
            raise ServerLost(f"{self.url}: answered with other weights than were asked for")
        return reply

    def set_weights(self, request: WeightsRequest | BroadcastRequest) -> ServerInfo:
        """Has the server take new weights; what it runs then.

        Raises:
            InputError: it refuses them, and has the old ones still.
            ServerLost: it does not answer, or took something else.
        """
        path = "/weights" if isinstance(request, WeightsRequest) else "/broadcast"
        info = self._read(ServerInfo, self._send(path, request, self.seconds))
        if info.weights != request.weights:
            raise ServerLost(
                f"{self.url}: weights of digest {request.weights[:16]} were sent, {info.weights[:16]} arrived"
            )
        return info

    def _send(self, path: str, body: StrictModel | None, seconds: float) -> bytes:
        data = None if body is None else body.model_dump_json().encode()
        request = urllib.request.Request(self.url + path, data, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=seconds) as reply:
                return bytes(reply.read())
        except urllib.error.HTTPError as error:
            with error:
                problem = _problem(error.read())
            if error.code == 409:
                raise HasOtherWeights(f"{self.url}: {problem}") from error
            if 400 <= error.code < 500:
                raise InputError(f"{self.url} refuses {path}: {problem}") from error
            raise ServerLost(f"{self.url}: {error.code}: {problem}") from error
        except (OSError, http.client.HTTPException) as error:
            raise ServerLost(f"{self.url}: {getattr(error, 'reason', error)!r}") from error

    def _read(self, kind: type[T], body: bytes) -> T:
        try:
            return kind.model_validate_json(body)
        except ValidationError as error:
            raise ServerLost(f"{self.url}: no reply of a rollout server: {body[:MAX_SHOWN]!r}") from error


def _problem(body: bytes) -> str:
    try:
        value: Any = json.loads(body)
        return str(value["error"])
    except (ValueError, KeyError, TypeError):
        return repr(body[:MAX_SHOWN])
