"""The client against a server on loopback that answers by a script."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from megatron_redone.common.errors import InputError
from megatron_redone.scoring.completion_cache import CompletionCache, content_hash
from megatron_redone.scoring.completion_server import CompletionServer, ServerError
from megatron_redone.scoring.config import ServerConfig
from megatron_redone.scoring.judge import one_by_one
from tests.fake_completion_server import Answer, FakeServer

QUESTION = [{"role": "user", "content": "who?"}]


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeServer]:
    monkeypatch.setenv("no_proxy", "*")
    server = FakeServer()
    yield server
    server.close()


@pytest.fixture
def client(fake: FakeServer) -> Iterator[Callable[..., CompletionServer]]:
    caches = []

    def make(cache: Path | None = None, **settings: Any) -> CompletionServer:
        config = ServerConfig.model_validate({"url": fake.url, "model": "m", **settings})
        kept = CompletionCache(cache) if cache is not None else None
        if kept is not None:
            caches.append(kept)
        waits: list[float] = []
        made = CompletionServer(config, kept, sleep=waits.append)
        made.waits = waits  # type: ignore[attr-defined]
        return made

    yield make
    for cache in caches:
        cache.close()


def test_a_reply_and_its_tokens(fake: FakeServer, client: Callable[..., CompletionServer]) -> None:
    server = client(
        temperature=0.5, max_tokens=9, price_per_million_prompt_tokens=10, price_per_million_completion_tokens=100
    )
    assert server.complete(QUESTION) == "WHO?"
    assert fake.paths == ["/v1/chat/completions"]
    assert fake.requests == [{"model": "m", "messages": QUESTION, "temperature": 0.5, "max_tokens": 9}]
    assert "authorization" not in fake.headers[0]
    usage = server.usage
    assert (usage.requests, usage.retries, usage.cache_hits) == (1, 0, 0)
    assert (usage.prompt_tokens, usage.completion_tokens) == (7, 3)
    assert usage.cost(server.config) == pytest.approx((7 * 10 + 3 * 100) / 1e6)


def test_a_cached_reply_asks_nobody_also_in_the_next_run(
    fake: FakeServer, client: Callable[..., CompletionServer], tmp_path: Path
) -> None:
    path = tmp_path / "deep" / "cache.sqlite"
    first = client(cache=path)
    assert [first.complete(QUESTION), first.complete(QUESTION)] == ["WHO?", "WHO?"]
    assert (first.usage.requests, first.usage.cache_hits, first.usage.prompt_tokens) == (1, 1, 7)
    second = client(cache=path)
    assert second.complete(QUESTION) == "WHO?"
    assert (second.usage.requests, second.usage.cache_hits, len(fake.requests)) == (0, 1, 1)


@pytest.mark.parametrize("change", [{"model": "n"}, {"temperature": 0.1}, {"max_tokens": 5}])
def test_another_request_is_no_hit(
    fake: FakeServer, client: Callable[..., CompletionServer], tmp_path: Path, change: dict[str, Any]
) -> None:
    path = tmp_path / "cache.sqlite"
    client(cache=path).complete(QUESTION)
    client(cache=path, **change).complete(QUESTION)
    assert len(fake.requests) == 2


@pytest.mark.parametrize(
    "failure",
    [(429, {}, b"slow down"), (500, {}, b"oops"), (503, {}, b""), (200, {}, b"<html>"), (200, {}, b'{"choices": []}'),
     (200, {}, b"[]"), (200, {}, b'{"choices": [{"message": {"content": null}}]}'), None],
)  # fmt: skip
def test_what_may_pass_is_tried_again(
    fake: FakeServer, client: Callable[..., CompletionServer], failure: Answer | None
) -> None:
    fake.script = [failure, failure]
    server = client()
    assert server.complete(QUESTION) == "WHO?"
    assert (server.usage.requests, server.usage.retries) == (3, 2)
    first, second = server.waits  # type: ignore[attr-defined]
    assert 0.5 <= first <= 1.0 <= second <= 2.0


def test_the_server_may_say_how_long_to_wait_up_to_the_limit(
    fake: FakeServer, client: Callable[..., CompletionServer]
) -> None:
    fake.script = [(429, {"Retry-After": wait}, b"") for wait in ("7", "700", "tomorrow")]
    server = client(max_wait_seconds=30)
    server.complete(QUESTION)
    waits = server.waits  # type: ignore[attr-defined]
    assert waits[:2] == [7.0, 30.0] and 2.0 <= waits[2] <= 4.0


def test_it_gives_up_after_the_last_attempt_and_says_why(
    fake: FakeServer, client: Callable[..., CompletionServer], tmp_path: Path
) -> None:
    fake.script = [(500, {}, b"the model fell over")] * 3
    server = client(cache=tmp_path / "cache.sqlite", max_attempts=3)
    with pytest.raises(ServerError, match=r"no reply in 3 attempts.*500: the model fell over"):
        server.complete(QUESTION)
    assert len(fake.requests) == 3 and len(server.waits) == 2  # type: ignore[attr-defined]
    assert server.complete(QUESTION) == "WHO?"  # a failure is not cached


@pytest.mark.parametrize("status", [400, 401, 404])
def test_a_refused_request_is_not_repeated(
    fake: FakeServer, client: Callable[..., CompletionServer], status: int
) -> None:
    fake.script = [(status, {}, b"no such model")]
    with pytest.raises(InputError, match=rf"status {status} for model 'm': no such model; check url, model and key"):
        client().complete(QUESTION)
    assert len(fake.requests) == 1


def test_nobody_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")
    fake = FakeServer()
    url = fake.url
    fake.close()
    waits: list[float] = []
    server = CompletionServer(ServerConfig(url=url, model="m", max_attempts=2), sleep=waits.append)
    with pytest.raises(ServerError, match="no reply in 2 attempts"):
        server.complete(QUESTION)
    assert len(waits) == 1


def test_the_key_is_sent_and_shown_nowhere(
    fake: FakeServer, client: Callable[..., CompletionServer], tmp_path: Path
) -> None:
    file = tmp_path / "key"
    file.write_text("k-123\n")
    server = client(api_key_file=file)
    server.complete(QUESTION)
    assert fake.headers[0]["authorization"] == "Bearer k-123"
    assert "k-123" not in server.config.model_dump_json()
    for content in ("", "two\nlines", "schlüssel"):
        file.write_text(content, encoding="utf-8")
        with pytest.raises(InputError, match="api_key_file"):
            client(api_key_file=file)
    with pytest.raises(InputError, match="api_key_file"):
        client(api_key_file=tmp_path / "absent")


def test_threads_share_a_client_and_replies_keep_their_order(
    fake: FakeServer, client: Callable[..., CompletionServer], tmp_path: Path
) -> None:
    server = client(cache=tmp_path / "cache.sqlite")
    asked = [[{"role": "user", "content": f"question {number}"}] for number in range(30)]
    assert one_by_one(server.complete, threads=6)(asked) == [f"QUESTION {number}" for number in range(30)]
    assert server.usage.requests == 30 and server.usage.completion_tokens == 90


def test_a_file_that_is_no_cache_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "cache"
    path.write_text("this is a text, and long enough not to be taken for an empty database file" * 20)
    with pytest.raises(InputError, match="not a cache of replies"):
        CompletionCache(path)


def test_hashes_do_not_depend_on_the_order_of_keys() -> None:
    assert content_hash({"a": 1, "b": "ü"}) == content_hash({"b": "ü", "a": 1}) != content_hash({"a": 1, "b": "u"})


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "ftp://host/v1", "http://"])
def test_an_address_needs_scheme_and_host(url: str) -> None:
    with pytest.raises(ValidationError, match="must start with http"):
        ServerConfig(url=url, model="m")
