"""Rollout servers on loopback that answer by a script, as `redone serve` would."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from torch.distributed import TCPStore

from megatron_redone.checkpoint.hf_folder import SafetensorsFolder
from megatron_redone.common.errors import InputError, RedoneError
from megatron_redone.generation.broadcast import receive
from megatron_redone.generation.protocol import NOT_OF_THE_MODEL, BroadcastRequest
from megatron_redone.generation.weight_stream import WeightDigest
from megatron_redone.models.config import ModelShape


class FakeRolloutServer:
    """Answers each sequence with [its key modulo 97, number of prompt tokens], each token of log-probability -1.

    `fail_next` requests for completions hang up; `dead` stands for a killed process: nothing is answered until
    `revive`. Weights are read from the transfer folder, as a real server reads them; `corrupt` reads them wrongly.
    """

    def __init__(self, shape: ModelShape, transfer_folder: Path | None = None, tokenizer: str | None = None) -> None:
        self.shape, self.transfer_folder, self.tokenizer = shape, transfer_folder, tokenizer
        self.weights, self.version = "of the folder", 0
        self.fail_next = 0
        self.die_after: int | None = None
        self.dead = self.corrupt = self.dies_in_transfer = False
        self.status = 200
        self.answered: list[dict[str, Any]] = []
        self.lock = threading.Lock()
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if not fake.dead:
                    self.reply(200, fake.info())

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if self.path == "/broadcast" and not fake.dead:
                    self.reply(*fake.broadcast_reply(body))
                    return
                with fake.lock:
                    if self.path == "/generate" and fake.die_after is not None and len(fake.answered) >= fake.die_after:
                        fake.dead = True
                    if fake.dead:
                        return
                    if self.path == "/generate" and fake.fail_next:
                        fake.fail_next -= 1
                        return
                    status, value = fake.weights_reply(body) if self.path == "/weights" else fake.generate(body)
                self.reply(status, value)

            def reply(self, status: int, value: Any) -> None:
                content = json.dumps(value).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *args: object) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}"

    def info(self) -> dict[str, Any]:
        return {
            "shape": self.shape.model_dump(mode="json", exclude=set(NOT_OF_THE_MODEL)),
            "tokenizer": self.tokenizer,
            "weights": self.weights,
            "version": self.version,
            "dtype": "float32",
            "max_model_len": 64,
            "engine": "fake",
        }

    def generate(self, request: dict[str, Any]) -> tuple[int, Any]:
        if self.status != 200:
            return self.status, {"error": "as the script says"}
        if request["weights"] != self.weights:
            return 409, {"error": f"this server has {self.weights}"}
        self.answered.append(request)
        groups = [
            [
                {"token_ids": [key % 97, len(prompt)], "logprobs": [-1.0, -1.0], "finish_reason": "length"}
                for key in keys
            ]
            for prompt, keys in zip(request["prompts"], request["keys"], strict=True)
        ]
        return 200, {"weights": self.weights, "completions": groups}

    def weights_reply(self, request: dict[str, Any]) -> tuple[int, Any]:
        if self.transfer_folder is None:
            return 400, {"error": "no transfer folder"}
        digest = WeightDigest()
        tensors = SafetensorsFolder(self.transfer_folder / request["folder"])
        for name in tensors:
            digest.add(name, tensors[name] + 1 if self.corrupt else tensors[name])
        self.weights, self.version = digest.value, request["version"]
        return 200, self.info()

    def broadcast_reply(self, request: dict[str, Any]) -> tuple[int, Any]:
        """By the very code of a real server; `dies_in_transfer` stands for a process killed when it has joined."""
        asked = BroadcastRequest.model_validate(request)
        if self.dies_in_transfer:
            self.dead = True
            store = TCPStore(asked.host, asked.port, is_master=False, wait_for_workers=False)
            store.set(f"here {asked.rank}", "")
            return 500, {"error": "dead"}
        try:
            tensors = receive(asked, self.shape)
        except InputError as error:
            return 400, {"error": str(error)}
        except RedoneError as error:
            return 503, {"error": str(error)}
        digest = WeightDigest()
        for name, tensor in tensors.items():
            digest.add(name, tensor + 1 if self.corrupt else tensor)
        self.weights, self.version = digest.value, asked.version
        return 200, self.info()

    def revive(self) -> None:
        """As a process started anew: with the weights of the model's folder."""
        self.weights, self.version = "of the folder", 0
        self.dead, self.die_after = False, None

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()
