"""A file that holds one JSON list, item by item."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from megatron_redone.common.errors import DataError

CHUNK_CHARACTERS = 1 << 20
MAX_ITEM_CHARACTERS = 1 << 26
_ENDS = {",", "]", " ", "\t", "\r", "\n"}
"""What may follow an item of a list."""


def json_list(path: Path) -> Iterator[Any]:
    """The items of a file that holds one JSON list, without reading it whole.

    Raises:
        DataError: not UTF-8, or broken JSON from some item on, or a file that was cut.
    """
    decoder = json.JSONDecoder()
    number = place = 0
    with path.open(encoding="utf-8-sig") as file:
        try:
            buffer = file.read(CHUNK_CHARACTERS).lstrip().removeprefix("[")
            while True:
                while buffer[place : place + 1] and buffer[place] in " \t\r\n,":
                    place += 1
                try:
                    value, end = decoder.raw_decode(buffer, place)
                    whole = buffer[end : end + 1] in _ENDS  # a number at the end of the buffer may go on
                except json.JSONDecodeError:
                    whole = False
                if whole:
                    yield value
                    number, place = number + 1, end
                    continue
                if buffer.startswith("]", place):
                    return
                more = file.read(CHUNK_CHARACTERS)
                if not more or len(buffer) - place > MAX_ITEM_CHARACTERS:
                    raise DataError(
                        f"{path}#{number}: not JSON, or cut in the middle ({buffer[place : place + 60]!r}); "
                        "make the file again"
                    )
                buffer, place = buffer[place:] + more, 0
        except UnicodeDecodeError as error:
            raise DataError(f"{path}: not UTF-8 after item {number}; save the file as UTF-8") from error
