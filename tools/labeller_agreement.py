"""Agreement of the keyword labeller with labels given by hand: `python -m tools.labeller_agreement LABELS DATA`.

LABELS is a JSONL file of `{"file", "index", "area", "topic"}`; `file` is a path below DATA, `index` the number of the
row in it from 0. Prints agreement at both levels and the area pairs that are confused most.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Any

from megatron_redone.common.jsonl import read_jsonl
from megatron_redone.curation.sft.formats import Defaults, read_conversation
from megatron_redone.curation.sft.records import read_records
from megatron_redone.curation.stats.labellers import KeywordLabeller


def text_of(path: Path, index: int) -> str:
    """What the label is about: the user's turns of a conversation, a `question`, or the first text of a line."""
    if path.suffix == ".txt":
        with path.open(encoding="utf-8") as file:
            return next(islice(file, index, None)).split("\t")[0].replace(" ", "")
    value: Any = next(islice(read_records(path), index, None)).value
    if "question" in value:
        return str(value["question"])
    found = read_conversation(value, f"{path}#{index}", Defaults("row", "", "", ""))
    return "\n".join(message["content"] for message in found.messages if message["role"] == "user")


def main(labels: Path, data: Path) -> None:
    """Prints the agreement."""
    given = [value for _, value in read_jsonl(labels)]
    found = KeywordLabeller().label([text_of(data / value["file"], value["index"]) for value in given])
    pairs = [((g["area"], g["topic"]), (f.area, f.topic)) for g, f in zip(given, found, strict=True) if f]
    areas = sum(hand[0] == ours[0] for hand, ours in pairs)
    print(f"{len(pairs)} rows: area {areas}, topic {sum(hand == ours for hand, ours in pairs)} agree")
    labelled = [(hand, ours) for hand, ours in pairs if ours[0] != "other"]
    areas = sum(hand[0] == ours[0] for hand, ours in labelled)
    print(f"{len(labelled)} with a label: area {areas}, topic {sum(hand == ours for hand, ours in labelled)} agree")
    confused = Counter((hand[0], ours[0]) for hand, ours in pairs if hand[0] != ours[0])
    print(json.dumps([f"{hand} -> {ours}: {n}" for (hand, ours), n in confused.most_common(6)]))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
