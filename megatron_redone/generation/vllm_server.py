"""A rollout server: vLLM behind HTTP, for prompts and answers as token ids.

One thread owns the engine. It takes commands in the order they came: requests join the running batch at once; an update
of the weights waits until the batch is empty, and what came after it waits for the update.
"""

from __future__ import annotations

import json
import queue
import threading
from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from torch import Tensor

from megatron_redone.common.errors import InputError, RedoneError
from megatron_redone.common.logging import get_logger
from megatron_redone.generation.base import Completion, SamplingParams
from megatron_redone.generation.broadcast import TransferBroken, receive
from megatron_redone.generation.protocol import (
    NOT_OF_THE_MODEL,
    BroadcastRequest,
    GenerateReply,
    GenerateRequest,
    SequenceReply,
    ServerInfo,
    WeightsRequest,
)
from megatron_redone.generation.vllm_core import VLLMCore, vllm_version

LOG = get_logger("serve")
MAX_BODY_BYTES = 1 << 30
STOP = object()


class OtherWeights(RedoneError):
    """The request is for other weights than the server has."""


class _HTTPServer(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256


@dataclass
class _Asked:
    """A request on its way."""

    request: GenerateRequest
    reply: Future[Any]
    found: dict[tuple[int, int], Completion] = field(default_factory=dict)

    @property
    def num_sequences(self) -> int:
        return sum(len(keys) for keys in self.request.keys)


@dataclass
class _Arrived:
    """Weights that came by a broadcast, whole and checked."""

    tensors: dict[str, Tensor]
    version: int


class RolloutServer:
    """Serves until `close`.

    Args:
        core: an engine with weights.
        tokenizer: fingerprint of the model's tokenizer.
        transfer_folder: weights are taken from folders in here only; None: from none.
        allow_broadcast: take weights from whoever asks the server to join a broadcast.
    """

    def __init__(
        self,
        core: VLLMCore,
        tokenizer: str | None,
        transfer_folder: Path | None,
        host: str = "127.0.0.1",
        port: int = 0,
        allow_broadcast: bool = False,
    ) -> None:
        self.core, self.tokenizer, self.transfer_folder = core, tokenizer, transfer_folder
        self.allow_broadcast = allow_broadcast
        self.failure: str | None = None
        self._one_transfer = threading.Lock()
        self._commands: queue.Queue[tuple[Any, Future[Any]] | object] = queue.Queue()
        self._engine = threading.Thread(target=self._run, name="engine")
        self.http = _HTTPServer((host, port), _handler(self))

    @property
    def url(self) -> str:
        """Where it answers."""
        host, port = self.http.server_address[:2]
        return f"http://{host!s}:{port}"

    def serve(self) -> None:
        """Answers until `stop` is called, or the engine fails.

        Raises:
            RedoneError: the engine failed.
        """
        self._engine.start()
        try:
            self.http.serve_forever(poll_interval=0.1)
        finally:
            self._commands.put(STOP)
            self._engine.join()
            self.http.server_close()
            self.core.close()
        if self.failure is not None:
            raise RedoneError(self.failure)

    def stop(self) -> None:
        """Ends `serve`; from another thread or a signal handler."""
        threading.Thread(target=self.http.shutdown).start()

    def info(self) -> ServerInfo:
        """What it runs."""
        shape = self.core.shape.model_dump(mode="json")
        return ServerInfo(
            shape={name: value for name, value in shape.items() if name not in NOT_OF_THE_MODEL},
            tokenizer=self.tokenizer,
            weights=self.core.digest or "",
            version=self.core.version,
            dtype=self.core.dtype,
            max_model_len=self.core.max_model_len,
            engine=f"vllm {vllm_version()}",
        )

    def take_broadcast(self, request: BroadcastRequest) -> Any:
        """Receives weights beside whatever is being generated; then they wait for their turn as a command.

        Raises:
            InputError: they do not fit the model, or the server takes none this way.
            RedoneError: the transfer broke off, or another one is on its way; nothing was changed.
        """
        if not self.allow_broadcast:
            raise InputError("this server was started without --allow-broadcast; it joins none")
        if not self._one_transfer.acquire(blocking=False):
            raise TransferBroken("another transfer of weights is on its way; nothing was changed")
        try:
            return self.ask(_Arrived(receive(request, self.core.shape), request.version))
        finally:
            self._one_transfer.release()

    def ask(self, command: GenerateRequest | WeightsRequest | _Arrived) -> Any:
        """Hands a command to the engine's thread and waits for its answer."""
        if self.failure is not None:
            raise RedoneError(self.failure)
        answer: Future[Any] = Future()
        self._commands.put((command, answer))
        return answer.result()

    def _run(self) -> None:
        try:
            self._engine_loop()
        except Exception as error:  # whatever ends the engine ends the server, and is told
            LOG.exception("the engine failed")
            self.failure = f"the engine failed: {type(error).__name__}: {error}"
            self.stop()
            raise

    def _engine_loop(self) -> None:
        waiting: deque[tuple[Any, Future[Any]]] = deque()
        running: list[_Asked] = []
        try:
            while True:
                while not self._commands.empty() or not (waiting or self.core.busy):
                    taken = self._commands.get()
                    if taken is STOP:
                        return
                    waiting.append(taken)  # type: ignore[arg-type]
                while waiting and (isinstance(waiting[0][0], GenerateRequest) or not self.core.busy):
                    self._begin(*waiting.popleft(), running)
                if self.core.busy:
                    for (asked, place), completion in self.core.step():
                        asked.found[place] = completion
                    for asked in [asked for asked in running if len(asked.found) == asked.num_sequences]:
                        running.remove(asked)
                        asked.reply.set_result(asked)
        finally:
            for left in [*(asked.reply for asked in running), *(reply for _, reply in waiting)]:
                left.set_exception(RedoneError("the server ends"))

    def _begin(
        self, command: GenerateRequest | WeightsRequest | _Arrived, reply: Future[Any], running: list[_Asked]
    ) -> None:
        """Starts a command; what is wrong with it is its own answer."""
        try:
            if isinstance(command, WeightsRequest):
                reply.set_result(self._update(command))
                return
            if isinstance(command, _Arrived):
                self.core.receive(command.tensors.items(), command.version)
                reply.set_result(self._updated())
                return
            asked = self._check(command, reply)
        except RedoneError as error:
            reply.set_exception(error)
            return
        params = SamplingParams(
            command.max_new_tokens, command.temperature, command.top_p, stop_ids=tuple(command.stop_ids)
        )
        for place, (prompt, keys) in enumerate(zip(command.prompts, command.keys, strict=True)):
            for sample, key in enumerate(keys):
                self.core.add((asked, (place, sample)), prompt, params, key)
        running.append(asked)

    def _check(self, request: GenerateRequest, reply: Future[Any]) -> _Asked:
        if self.core.unusable is not None:
            raise OtherWeights(f"this server answers nothing: {self.core.unusable}")
        if request.weights != self.core.digest:
            raise OtherWeights(f"asked for weights {request.weights[:16]}, this server has {self.core.digest}")
        if len(request.keys) != len(request.prompts) or not all(request.keys):
            raise InputError(f"{len(request.prompts)} prompts, keys for {len(request.keys)}; give each prompt its own")
        self.core.check_prompts(request.prompts, request.max_new_tokens)
        return _Asked(request, reply)

    def _update(self, request: WeightsRequest) -> ServerInfo:
        if self.transfer_folder is None:
            raise InputError("this server was started without --transfer-folder; its weights are never updated")
        folder = (self.transfer_folder / request.folder).resolve()
        if folder.parent != self.transfer_folder.resolve() or not folder.is_dir():
            raise InputError(f"folder={request.folder!r}: no folder of that name in {self.transfer_folder}")
        self.core.receive_folder(folder, request.version, request.weights)
        return self._updated()

    def _updated(self) -> ServerInfo:
        info = self.info()
        LOG.info("weights are version %d, digest %s", info.version, info.weights[:16])
        return info


def reply_to(asked: _Asked) -> GenerateReply:
    """The reply to a request whose sequences are all done."""
    completions = tuple(
        tuple(
            SequenceReply(token_ids=one.token_ids, logprobs=one.logprobs, finish_reason=one.finish_reason)
            for one in (asked.found[place, sample] for sample in range(len(keys)))
        )
        for place, keys in enumerate(asked.request.keys)
    )
    return GenerateReply(weights=asked.request.weights, completions=completions)


def _handler(server: RolloutServer) -> type[BaseHTTPRequestHandler]:
    """The HTTP side, one thread a connection."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/health":
                problem = server.failure or server.core.unusable
                self._send(200 if problem is None else 503, {"error": problem} if problem else {"status": "ok"})
            elif self.path == "/info":
                self._send(200, server.info().model_dump(mode="json"))
            else:
                self._send(404, {"error": f"{self.path}: no such page"})

        def do_POST(self) -> None:
            kinds: dict[str, tuple[Any, Any]] = {
                "/generate": (GenerateRequest, server.ask),
                "/weights": (WeightsRequest, server.ask),
                "/broadcast": (BroadcastRequest, server.take_broadcast),
            }
            if self.path not in kinds:
                self._send(404, {"error": f"{self.path}: no such page"})
                return
            try:
                kind, action = kinds[self.path]
                answer = action(kind.model_validate_json(self._body()))
                reply = reply_to(answer) if isinstance(answer, _Asked) else answer
                self._send(200, reply.model_dump(mode="json"))
            except OtherWeights as error:
                self._send(409, {"error": str(error)})
            except (InputError, ValidationError, ValueError) as error:
                self._send(400, {"error": str(error)})
            except RedoneError as error:
                self._send(503, {"error": str(error)})

        def _body(self) -> bytes:
            length = int(self.headers.get("Content-Length") or 0)
            if not 0 < length <= MAX_BODY_BYTES:
                raise InputError(f"a body of {length} bytes; 1 to {MAX_BODY_BYTES} are taken")
            return self.rfile.read(length)

        def _send(self, status: int, value: Any) -> None:
            body = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None: ...

    return Handler
