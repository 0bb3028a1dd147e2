"""Conversation formats in the wild, read into one: OpenAI's `messages`, Alpaca, ShareGPT, and our task rows.

| format | keys |
|---|---|
| openai | `messages`: a list of `role` (system, user, assistant) and `content` |
| alpaca | `instruction`, `output`, and if wanted `input`, `system`, `history` (a list of [question, answer]) |
| sharegpt | `conversations`: a list of `from` (human, gpt, system) and `value`; if wanted `system` |
| task_row | `task`, `fields`, `answer`, ... (`tasks/row.py`), rendered and checked by the catalogue |

Beside these a row may hold `id`, `task`, `capability`, `language`, `source`, `origin`, `weight` (of sampling) and
`loss_weight` (of its answers in the loss). Other keys are left aside, but not those that change what the row says
(tools, images, a rejected answer): such a row is refused.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from megatron_redone.common.errors import DataError, InputError
from megatron_redone.curation.conversations import TrainingConversation, gold_conversation
from megatron_redone.curation.sft.config import InputFormat
from megatron_redone.data.conversation import Message, check_turns, conversation_from_row, parse_messages
from megatron_redone.tasks.catalogue import TASKS, get_task
from megatron_redone.tasks.row import Row

SHAREGPT_ROLES = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "chatgpt": "assistant",
    "model": "assistant",
    "system": "system",
}
MEANINGFUL_KEYS = {
    "tools": "tool calls cannot be learnt",
    "functions": "tool calls cannot be learnt",
    "images": "only text can be learnt",
    "videos": "only text can be learnt",
    "audios": "only text can be learnt",
    "rejected": "a preference pair is for DPO",
}
"""Keys of other formats without which a row would be read wrongly."""
GIVEN = "given"
"""Origin of an answer that came with its file."""
_HAN = re.compile("[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]")
_KANA = re.compile("[\u3040-\u30ff]")
_HANGUL = re.compile("[\uac00-\ud7af]")
_LETTER = re.compile(r"[^\W\d_]")
SCRIPT_SHARE = 0.2
"""A text with at least this share of its letters in a script is in a language of that script."""


@dataclass(frozen=True)
class Defaults:
    """What a row is taken to say where it says nothing."""

    id: str
    task: str
    capability: str
    source: str
    latin_language: str = "en"


def read_conversation(
    value: Mapping[str, Any], where: str, defaults: Defaults, expected: InputFormat = "auto"
) -> TrainingConversation:
    """The conversation of a row in any of the formats.

    Raises:
        DataError: the row breaks a rule of its format; opens with `where` ("file:line").
    """
    kind = detect(value, where) if expected == "auto" else expected
    for key, reason in MEANINGFUL_KEYS.items():
        if value.get(key):
            raise DataError(f"{where}: key {key!r}: {reason}; remove the row or the key")
    if value.get("label") is False:
        raise DataError(f"{where}: label is false, so the answer is a rejected one; remove the row")
    if kind == "task_row":
        found = _task_row(value, where)
        return replace(found, source=found.source or defaults.source)
    messages = _READERS[kind](value, where)
    check_turns(messages, f"{where}: the conversation", last="assistant")
    return _conversation(value, messages, where, defaults)


def detect(value: Mapping[str, Any], where: str) -> InputFormat:
    """The format of a row by its keys.

    Raises:
        DataError: it has the keys of none, or of several.
    """
    signs: dict[InputFormat, bool] = {
        "openai": "messages" in value,
        "sharegpt": "conversations" in value,
        "alpaca": "instruction" in value and "output" in value,
        "task_row": "fields" in value and "answer" in value,
    }
    found = [kind for kind, present in signs.items() if present]
    if len(found) == 1:
        return found[0]
    rule = "messages, conversations, instruction and output, or fields and answer"
    told = f"has the keys of {' and '.join(found)}" if found else f"keys {sorted(value)} are of no known format"
    raise DataError(f"{where}: {told}; a row needs exactly one of: {rule}")


def language_of(text: str, latin_language: str) -> str:
    """`zh`, `ja` or `ko` by the script of a text, otherwise `latin_language`."""
    letters = len(_LETTER.findall(text))
    if letters == 0:
        return latin_language
    kana, hangul, han = (len(script.findall(text)) for script in (_KANA, _HANGUL, _HAN))
    if kana >= SCRIPT_SHARE * letters:
        return "ja"
    if hangul >= SCRIPT_SHARE * letters:
        return "ko"
    return "zh" if han >= SCRIPT_SHARE * letters else latin_language


def _openai(value: Mapping[str, Any], where: str) -> list[Message]:
    return conversation_from_row(value, where)


def _alpaca(value: Mapping[str, Any], where: str) -> list[Message]:
    instruction, output = (_text(value, key, where, required=True) for key in ("instruction", "output"))
    extra = _text(value, "input", where)
    turns: list[dict[str, str]] = []
    history = value.get("history") or []
    if not isinstance(history, list) or not all(isinstance(pair, list | tuple) and len(pair) == 2 for pair in history):
        raise DataError(f"{where}: history must be a list of [question, answer] pairs")
    if system := _text(value, "system", where):
        turns.append({"role": "system", "content": system})
    for question, answer in history:
        turns += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    question = f"{instruction}\n{extra}" if extra.strip() else instruction
    turns += [{"role": "user", "content": question}, {"role": "assistant", "content": output}]
    return parse_messages(turns, f"{where}: the conversation")


def _text(value: Mapping[str, Any], key: str, where: str, required: bool = False) -> str:
    text = value.get(key)
    if text is None and not required:
        return ""
    if not isinstance(text, str):
        raise DataError(f"{where}: {key} is {type(text).__name__}, expected a text")
    if required and not text.strip():
        raise DataError(f"{where}: {key} is blank; fill it or remove the row")
    return text


def _sharegpt(value: Mapping[str, Any], where: str) -> list[Message]:
    turns = value.get("conversations")
    if not isinstance(turns, list):
        raise DataError(f"{where}: conversations is {type(turns).__name__}, expected a list of from and value")
    messages = []
    if system := _text(value, "system", where):
        messages.append({"role": "system", "content": system})
    for index, turn in enumerate(turns):
        place = f"{where}: conversations[{index}]"
        if not isinstance(turn, Mapping) or not {"from", "value"} <= turn.keys():
            raise DataError(f"{place}: expected an object with from and value")
        if turn["from"] not in SHAREGPT_ROLES:
            raise DataError(f"{place}.from: {turn['from']!r} is none of {', '.join(SHAREGPT_ROLES)}")
        messages.append({"role": SHAREGPT_ROLES[turn["from"]], "content": turn["value"]})
    return parse_messages(messages, f"{where}: the conversation")


_READERS: Mapping[str, Callable[[Mapping[str, Any], str], list[Message]]] = {
    "openai": _openai,
    "alpaca": _alpaca,
    "sharegpt": _sharegpt,
}


def _task_row(value: Mapping[str, Any], where: str) -> TrainingConversation:
    try:
        row = Row.from_json(value, where)
        problems = get_task(row.task).validate(row)
    except DataError:
        raise
    except InputError as error:  # a task that is not in the catalogue
        raise DataError(f"{where}: {error}") from error
    if problems:
        raise DataError(f"{where}: " + "; ".join(problems))
    return gold_conversation(row)


def _conversation(
    value: Mapping[str, Any], messages: Sequence[Message], where: str, defaults: Defaults
) -> TrainingConversation:
    names = {key: _name(value, key, where) for key in ("id", "task", "capability", "language", "source", "origin")}
    task = names["task"] or defaults.task
    capability = TASKS[task].capability if task in TASKS else defaults.capability
    questions = " ".join(message["content"][:1000] for message in messages if message["role"] == "user")
    return TrainingConversation(
        names["id"] or defaults.id,
        task,
        messages,
        names["origin"] or GIVEN,
        names["capability"] or capability,
        names["language"] or language_of(questions, defaults.latin_language),
        names["source"] or defaults.source,
        _weight(value, "weight", where),
        _weight(value, "loss_weight", where),
    )


def _name(value: Mapping[str, Any], key: str, where: str) -> str:
    text = value.get(key)
    if key == "id" and type(text) is int:
        return str(text)
    if text is not None and not isinstance(text, str):
        raise DataError(f"{where}: {key} is {type(text).__name__}, expected a text")
    return text or ""


def _weight(value: Mapping[str, Any], key: str, where: str) -> float:
    weight = value.get(key, 1.0)
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 < weight < math.inf:
        raise DataError(f"{where}: {key}={weight!r} must be a finite number > 0; leave it out for 1")
    return float(weight)
