"""Files of answers in pairs, in the forms in which they are handed around, read one item at a time.

| keys of an item | known from |
|---|---|
| `prompt` or `messages`, `answer_a`, `answer_b`, and `label` (a, b or tie) for labelled ones | ours |
| `prompt`, `chosen_response`, `rejected_response`, `chosen_reward`, `rejected_reward` | NeMo-Aligner, this stage |
| `conversations`, and `chosen`, `rejected` as one turn `{from, value}` | LLaMA-Factory's ShareGPT form |
| `instruction`, `input`, and `chosen`, `rejected` as texts | LLaMA-Factory's Alpaca form |
| `prompt`, and `chosen`, `rejected` as texts or as lists of messages that end with the answer | UltraFeedback, TRL |

JSONL files, and files that hold one JSON list.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from megatron_redone.common.errors import DataError
from megatron_redone.common.jsonl import read_jsonl_lenient
from megatron_redone.common.seeding import derive_seed
from megatron_redone.curation.pairs.json_list import json_list
from megatron_redone.data.conversation import Message, check_turns, check_unicode, parse_messages
from megatron_redone.scoring.judge import LABELS, Comparison, Label
from megatron_redone.scoring.normalise import tidy

MAX_PROBLEMS_SHOWN = 5
SHAREGPT_ROLES = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "system": "system"}
LANGUAGES = ("en", "zh")
_CHINESE_SHARE = 0.2


@dataclass(frozen=True)
class AnswerPair:
    """Two answers to a conversation, with the label where somebody gave one.

    Attributes:
        id: of the item, or made of the file's name and the item's place.
        label: None for a pair that nobody labelled.
        score_a, score_b: scores that came with the answers.
        from_text: whether the prompt was a text, which stands as the user's turn in `messages`.
    """

    id: str
    messages: list[Message]
    answer_a: str
    answer_b: str
    label: Label | None
    language: str
    task: str
    row: str
    source: str
    score_a: float | None = None
    score_b: float | None = None
    from_text: bool = False

    def comparison(self, language: str = "auto") -> Comparison:
        """What a judge sees of it; `auto`: it is asked in the pair's own language."""
        asked_in = self.language if language == "auto" else language
        return Comparison(
            self.id, [plain(message) for message in self.messages], self.answer_a, self.answer_b, asked_in
        )


def read_answer_pairs(path: Path, labelled: bool, seed: int = 0) -> Iterator[AnswerPair | str]:
    """The pairs of a file in order, and for each item that is refused a line `file:line: reason`.

    Args:
        labelled: whether an item needs a label; without, `chosen` and `rejected` are refused: they have one.
        seed: draws, by the item's id, whether a chosen answer becomes a or b.

    Raises:
        DataError: no such file, or no JSON at all.
    """
    seen: set[str] = set()
    for where, value, problem in _items(path):
        if value is None:
            yield problem or f"{where}: unreadable"
            continue
        try:
            pair = _pair(value, where, path, labelled, seed)
        except DataError as error:
            yield str(error)
            continue
        if pair.id in seen:
            yield f"{where}: id {pair.id!r} occurs twice in the file; give each item its own"
            continue
        seen.add(pair.id)
        yield pair


def plain(message: Message) -> dict[str, str]:
    """A message as the judges' seam takes it."""
    return {"role": message["role"], "content": message["content"]}


class PairFile:
    """A file of pairs that is read more than once; `refused` holds the refused items of the last reading.

    Args:
        max_refused_share: more refused items than this share of the file are an error at the end of a reading.
    """

    def __init__(self, path: Path, labelled: bool, seed: int, max_refused_share: float) -> None:
        self.path, self.labelled, self.seed, self.max_refused_share = path, labelled, seed, max_refused_share
        self.refused: list[str] = []

    def __iter__(self) -> Iterator[AnswerPair]:
        """The pairs in order.

        Raises:
            DataError: as `read_answer_pairs`; no pair that can be used, or too many that cannot.
        """
        self.refused = []
        num_pairs = 0
        for found in read_answer_pairs(self.path, self.labelled, self.seed):
            if isinstance(found, str):
                self.refused.append(found)
            else:
                num_pairs += 1
                yield found
        total = num_pairs + len(self.refused)
        if not num_pairs or len(self.refused) > self.max_refused_share * total:
            shown = "\n".join(f"  {line}" for line in self.refused[:MAX_PROBLEMS_SHOWN])
            raise DataError(
                f"{self.path}: {len(self.refused)} of {total} items refused, but at most {self.max_refused_share:.0%} "
                f"may be and one must remain; correct the file; first problems:\n{shown}"
            )

    def count(self) -> int:
        """Reads the file through and says how many pairs it has, before anything costly is done with them."""
        return sum(1 for _ in self)


def _items(path: Path) -> Iterator[tuple[str, dict[str, Any] | None, str | None]]:
    if not path.is_file():
        raise DataError(f"{path}: no such file; check the path (a file, not a folder)")
    with path.open("rb") as file:
        starts_a_list = file.read(4096).lstrip(b"\xef\xbb\xbf \t\r\n")[:1] == b"["
    if not starts_a_list:
        for number, value, problem in read_jsonl_lenient(path):
            yield f"{path}:{number}", value, problem
        return
    for index, value in enumerate(json_list(path)):
        where = f"{path}#{index}"
        if isinstance(value, dict):
            yield where, value, None
        else:
            yield where, None, f"{where}: a {type(value).__name__}, expected a JSON object"


def _pair(value: Mapping[str, Any], where: str, path: Path, labelled: bool, seed: int) -> AnswerPair:
    name = value.get("id", f"{path.stem}-{where.rpartition('#' if '#' in where else ':')[2]}")
    if not isinstance(name, str | int) or isinstance(name, bool) or name == "":
        raise DataError(f"{where}: id={name!r} is no text; give each item a text as its id")
    messages, answers, label = _parts(value, where)
    scores = [_number(value.get(key), where, key) for key in _score_keys(label, value)]
    if label == "chosen":
        label = "a" if derive_seed(seed, "place of chosen", name) % 2 == 0 else "b"
        answers, scores = (answers, scores) if label == "a" else (answers[::-1], scores[::-1])
        if not labelled:
            raise DataError(f"{where}: has a chosen answer already; give it under `files`, not to a judge")
    elif labelled and label not in LABELS:
        raise DataError(f"{where}: label={label!r} is not one of a, b, tie; correct it")
    _check_answers(answers, where)
    text = " ".join(message["content"] for message in messages) + answers[0]
    language = value.get("language") or ("zh" if is_chinese(text) else "en")
    if language not in LANGUAGES:
        raise DataError(
            f"{where}: language={language!r} is not one of {', '.join(LANGUAGES)}; leave it out or correct it"
        )
    return AnswerPair(
        id=str(name),
        messages=messages,
        answer_a=answers[0],
        answer_b=answers[1],
        label=label if label in get_args(Label) else None,
        language=language,
        task=str(value.get("task") or ""),
        row=str(value.get("row") or name),
        source=str(value.get("source") or f"{path.name}{where.removeprefix(str(path))}"),
        score_a=scores[0],
        score_b=scores[1],
        from_text="messages" not in value and isinstance(value.get("prompt"), str),
    )


def _parts(value: Mapping[str, Any], where: str) -> tuple[list[Message], list[str], Any]:
    """Messages, two answers and the label: "chosen" where the first answer is the chosen one."""
    if "answer_a" in value or "answer_b" in value:
        return (
            _messages(value, where),
            [_text(value, key, where) for key in ("answer_a", "answer_b")],
            value.get("label"),
        )
    if "chosen_response" in value or "rejected_response" in value:
        keys = ("chosen_response", "rejected_response")
        return _messages(value, where), [_text(value, key, where) for key in keys], "chosen"
    if "chosen" not in value or "rejected" not in value:
        raise DataError(
            f"{where}: has the keys {', '.join(sorted(value))}; two answers stand under answer_a and answer_b, chosen "
            "and rejected, or chosen_response and rejected_response"
        )
    if "conversations" in value:
        turns = _sharegpt(value["conversations"], f"{where}: conversations")
        turns = [{"role": "system", "content": value["system"]}, *turns] if value.get("system") else turns
        answers = [_sharegpt([value[key]], f"{where}: {key}")[0]["content"] for key in ("chosen", "rejected")]
        return _checked(turns, where), answers, "chosen"
    if isinstance(value["chosen"], list):
        return _ending_in_answers(value, where)
    if "instruction" in value:
        given = "\n".join(text for text in (value["instruction"], value.get("input")) if text)
        turns = [{"role": "user", "content": given}]
        turns = [{"role": "system", "content": value["system"]}, *turns] if value.get("system") else turns
        return _checked(turns, where), [_text(value, key, where) for key in ("chosen", "rejected")], "chosen"
    return _messages(value, where), [_text(value, key, where) for key in ("chosen", "rejected")], "chosen"


def _ending_in_answers(value: Mapping[str, Any], where: str) -> tuple[list[Message], list[str], str]:
    """`chosen` and `rejected` as whole conversations: alike but for the last turn."""
    both = [parse_messages(value[key], f"{where}: {key}") for key in ("chosen", "rejected")]
    prompts, last = [messages[:-1] for messages in both], [messages[-1] for messages in both]
    if any(message["role"] != "assistant" for message in last):
        raise DataError(f"{where}: chosen or rejected does not end with an answer of the assistant; mend it")
    if prompts[0] != prompts[1]:
        raise DataError(f"{where}: chosen and rejected differ before the last turn; they must answer the same prompt")
    messages = prompts[0] or _messages(value, where)
    return _checked(messages, where), [message["content"] for message in last], "chosen"


def _messages(value: Mapping[str, Any], where: str) -> list[Message]:
    """`messages` if they are there: what this stage writes has both, and `prompt` is their text in a template."""
    if "messages" in value:
        return _checked(value["messages"], where)
    prompt = value.get("prompt")
    if isinstance(prompt, list):
        return _checked(prompt, where)
    if not isinstance(prompt, str) or not prompt.strip():
        raise DataError(f"{where}: prompt is {prompt!r}; give a text, or messages")
    return _checked([{"role": "user", "content": prompt}], where)


def _checked(messages: Any, where: str) -> list[Message]:
    found = parse_messages(messages, f"{where}: prompt")
    check_turns(found, f"{where}: prompt", last="user")
    return found


def _sharegpt(turns: Any, where: str) -> list[dict[str, Any]]:
    if not isinstance(turns, list) or not turns or not all(isinstance(turn, Mapping) for turn in turns):
        raise DataError(f"{where}: expected turns like {{'from': 'human', 'value': ...}}")
    for turn in turns:
        if turn.get("from") not in SHAREGPT_ROLES or not isinstance(turn.get("value"), str):
            raise DataError(
                f"{where}: a turn from {turn.get('from')!r}; known: {', '.join(SHAREGPT_ROLES)}, each with a text"
            )
    return [{"role": SHAREGPT_ROLES[turn["from"]], "content": turn["value"]} for turn in turns]


def _text(value: Mapping[str, Any], key: str, where: str) -> str:
    text = value.get(key)
    if not isinstance(text, str):
        raise DataError(f"{where}: {key} is {'missing' if key not in value else type(text).__name__}; give a text")
    return text


def _check_answers(answers: list[str], where: str) -> None:
    for answer in answers:
        if not answer.strip():
            raise DataError(f"{where}: an answer is empty; leave the item out")
        check_unicode(answer, where)
    if tidy(answers[0]) == tidy(answers[1]):
        raise DataError(f"{where}: the two answers are equal; there is nothing to prefer")


def _score_keys(label: Any, value: Mapping[str, Any]) -> tuple[str, str]:
    if label == "chosen" and ("chosen_reward" in value or "rejected_reward" in value):
        return ("chosen_reward", "rejected_reward")
    return ("score_chosen", "score_rejected") if label == "chosen" else ("score_a", "score_b")


def _number(value: Any, where: str, key: str) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise DataError(f"{where}: {key}={value!r} is no finite number; correct it or leave it out")
    return float(value)


def is_chinese(text: str) -> bool:
    """Whether a fifth of the letters are Chinese characters."""
    letters = [character for character in text if character.isalpha()]
    chinese = sum("\u4e00" <= character <= "\u9fff" for character in letters)
    return bool(letters) and chinese >= _CHINESE_SHARE * len(letters)
