from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from megatron_redone.common.jsonl import read_jsonl


def note(number: int, **changes: Any) -> dict[str, Any]:
    return {"id": f"n{number}", "title": f"title {number}", "content": f"content {number}.", **changes}


def search(minute: int, query: str, clicks: Sequence[tuple[str, float]], shown: Sequence[str] = ()) -> dict[str, Any]:
    return {
        "time": f"2025-03-04T21:{minute:02d}:00",
        "query": query,
        "shown": list(shown or [f"n{number}" for number in range(6)]),
        "clicks": [{"note": identifier, "seconds": seconds} for identifier, seconds in clicks],
    }


def session(number: int, *searches: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {"id": f"s{number}", "user": f"u{number}", "searches": list(searches), "next_action": "left", **changes}


class Logs:
    """A folder of sessions and notes, and what is made of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, name: str, *lines: dict[str, Any] | str) -> Path:
        self.folder.mkdir(exist_ok=True)
        path = self.folder / name
        texts = [line if isinstance(line, str) else json.dumps(line, ensure_ascii=False) for line in lines]
        path.write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
        return path


@pytest.fixture
def logs(tmp_path: Path) -> Logs:
    made = Logs(tmp_path / "logs")
    made.write("notes.jsonl", *(note(number) for number in range(6)))
    return made


def documents(folder: Path) -> list[dict[str, Any]]:
    return [value for path in sorted(folder.glob("corpus*.jsonl")) for _, value in read_jsonl(path)]
