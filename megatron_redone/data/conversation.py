"""Chat messages: what a conversation is, how it is read from a file, and the thought inside an answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypedDict, cast

from megatron_redone.common.errors import DataError

Role = Literal["system", "user", "assistant"]
ROLES: tuple[Role, ...] = ("system", "user", "assistant")

THINK_OPEN = "<think>"
THINK_CLOSE = "</think>"


class Message(TypedDict):
    """One turn of a conversation: who speaks, and the text."""

    role: Role
    content: str


def conversation_from_row(row: Mapping[str, Any], where: str, field: str = "messages") -> list[Message]:
    """The conversation of a JSON row in the form of OpenAI's `messages`.

    Args:
        row: the object of one line.
        where: the place for error messages, "file:line".
        field: the key that holds the list of messages.

    Raises:
        DataError: the key is missing, or `parse_messages` refuses its value.
    """
    if field not in row:
        raise DataError(f"{where}: field {field} is missing; a conversation needs a list of messages under that key")
    return parse_messages(row[field], f"{where}: field {field}")


def parse_messages(value: object, where: str) -> list[Message]:
    """Checks a decoded JSON value and returns it as messages with plain text.

    Accepted: an optional system message, then user and assistant in turns; `content` is a non-blank string,
    or a list of text parts (`{"type": "text", "text": ...}`), which are joined. Keys other than role and
    content may stand only with null, because what they say (tool calls, names) would be lost.

    Raises:
        DataError: names `where`, the index of the message and its key.
    """
    if not isinstance(value, list):
        raise DataError(f"{where}: a {type(value).__name__}, expected a list of messages with role and content")
    messages = [_parse_message(item, f"{where}[{index}]") for index, item in enumerate(value)]
    check_turns(messages, where)
    return messages


def check_turns(messages: Sequence[Message], where: str = "messages", last: Role | None = None) -> None:
    """Checks the order of the turns: system at most once and first, then user, assistant, user, ...

    Args:
        messages: the conversation.
        where: the place for error messages.
        last: the role that has to speak last; None for any.

    Raises:
        DataError: names the first message out of order.
    """
    turns = [message["role"] for message in messages]
    first = 1 if turns[:1] == ["system"] else 0
    if len(turns) == first:
        raise DataError(f"{where}: no user message; a conversation needs at least one")
    for index in range(first, len(turns)):
        expected = "user" if (index - first) % 2 == 0 else "assistant"
        if turns[index] != expected:
            raise DataError(
                f"{where}[{index}].role: {turns[index]!r} where {expected!r} has to speak; "
                "the order is an optional system message, then user and assistant in turns"
            )
    if last is not None and turns[-1] != last:
        raise DataError(f"{where}: the last message is of {turns[-1]!r}, expected {last!r}; add or remove a turn")


def strip_thought(answer: str) -> str:
    """An earlier answer as later turns see it: what follows its last `</think>`, without leading line ends.

    A thought that was never closed is removed too, with everything after its start.
    """
    if THINK_CLOSE in answer:
        answer = answer.rpartition(THINK_CLOSE)[2].lstrip("\n")
    return answer.partition(THINK_OPEN)[0]


def _parse_message(value: object, where: str) -> Message:
    if not isinstance(value, dict):
        raise DataError(f"{where}: a {type(value).__name__}, expected an object with role and content")
    for key in ("role", "content"):
        if key not in value:
            raise DataError(f"{where}.{key} is missing; a message needs role and content")
    for key, extra in value.items():
        if key not in ("role", "content") and extra is not None:
            raise DataError(f"{where}.{key}: not supported; a message holds role and content only, so remove the key")
    role = value["role"]
    if role not in ROLES:
        raise DataError(f"{where}.role: {role!r} is none of {', '.join(ROLES)}")
    content = _parse_content(value["content"], f"{where}.content")
    return Message(role=cast(Role, role), content=content)


def _parse_content(value: object, where: str) -> str:
    if isinstance(value, list):
        value = "".join(_parse_part(part, f"{where}[{index}]") for index, part in enumerate(value))
    if not isinstance(value, str):
        raise DataError(f"{where}: a {type(value).__name__}, expected a string")
    if not value.strip():
        raise DataError(f"{where}: blank; every message needs text, so fill it or remove the row")
    check_unicode(value, where)
    return value


def _parse_part(value: object, where: str) -> str:
    if isinstance(value, dict) and value.get("type") == "text" and isinstance(value.get("text"), str):
        return cast(str, value["text"])
    raise DataError(f'{where}: only text parts can be read; expected {{"type": "text", "text": "..."}}')


def check_unicode(text: str, where: str) -> None:
    r"""Refuses half of a surrogate pair (JSON's `"\ud83d"` alone), which no encoder takes.

    Raises:
        DataError: names `where` and the position of the character.
    """
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise DataError(
            f"{where}: half of a surrogate pair (U+{ord(text[error.start]):04X}) at character {error.start}; "
            "the text was cut inside a character: mend or remove it"
        ) from error
