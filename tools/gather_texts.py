"""Turns public data sets in their own formats into documents for `redone curate filter`.

    python tools/gather_texts.py DATA_FOLDER OUT_FOLDER [--sets cold davidson ...] [--every 100]

Each document says in `source` which file and which index (row from 0) it comes from. Tokenised Chinese is joined: its
spaces are the data set's, not the writer's. One file a data set; only sets that are there are read.
"""

from __future__ import annotations

import argparse
import csv
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from megatron_redone.common.jsonl import write_jsonl

Texts = Iterator[tuple[str, int, str]]
"""(file name, index, text)."""
_SPACE_BESIDE_CJK = re.compile("(?<=[\u3000-\u9fff\uff00-\uffef]) | (?=[\u3000-\u9fff\uff00-\uffef])")


def joined(text: str) -> str:
    """Text without the spaces that a word segmenter put beside Chinese characters."""
    return _SPACE_BESIDE_CJK.sub("", " ".join(text.split()))


def lccc_toy(folder: Path) -> Texts:
    """Conversations: turns as lines."""
    for name in ("toy_train.txt", "toy_valid.txt"):
        for index, line in enumerate((folder / name).read_text(encoding="utf-8").splitlines()):
            yield name, index, "\n".join(joined(turn) for turn in line.split("\t"))


def takg_weibo(folder: Path) -> Texts:
    """Posts with their comments, segmented."""
    for name in ("test_src.txt", "valid_src.txt"):
        for index, line in enumerate((folder / name).read_text(encoding="utf-8").splitlines()):
            yield name, index, joined(line)


def cold(folder: Path) -> Texts:
    """Posts that people judged for offence."""
    for name in ("train.csv", "dev.csv", "test.csv"):
        with (folder / name).open(encoding="utf-8-sig", newline="") as file:
            for index, row in enumerate(csv.DictReader(file)):
                yield name, index, row["TEXT"]


def davidson(folder: Path) -> Texts:
    """Tweets that people judged for offence."""
    with (folder / "labeled_data.csv").open(encoding="utf-8", newline="") as file:
        for index, row in enumerate(csv.DictReader(file)):
            yield "labeled_data.csv", index, row["tweet"]


def llamafactory_demo(folder: Path) -> Texts:
    """Web pages (C4)."""
    for index, row in enumerate(json.loads((folder / "c4_demo.json").read_text(encoding="utf-8"))):
        yield "c4_demo.json", index, row["text"]


def sns_bench(folder: Path) -> Texts:
    """Every text of a benchmark row, as lines."""
    for path in sorted(folder.glob("*.json")):
        for index, row in enumerate(json.loads(path.read_text(encoding="utf-8"))):
            yield path.name, index, "\n".join(_strings(row))


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for member in value.values() if isinstance(value, dict) else value:
            yield from _strings(member)


SETS: dict[str, Callable[[Path], Texts]] = {
    "lccc_toy": lccc_toy,
    "takg_weibo": takg_weibo,
    "cold": cold,
    "davidson": davidson,
    "llamafactory_demo": llamafactory_demo,
    "sns_bench": sns_bench,
}


def main() -> None:
    """Writes OUT_FOLDER/SET.jsonl for each set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--sets", nargs="+", choices=sorted(SETS), default=list(SETS))
    parser.add_argument("--every", type=int, default=1, help="take every so-manieth row of each file")
    arguments = parser.parse_args()
    for name in arguments.sets:
        folder = arguments.data / name
        if not folder.is_dir():
            print(f"{name}: {folder} is not there; left out")
            continue
        rows = (
            {"id": f"{name}/{file}/{index}", "text": text, "source": f"{name}/{file}:{index}"}
            for file, index, text in SETS[name](folder)
            if index % arguments.every == 0
        )
        print(f"{name}: {write_jsonl(arguments.out / f'{name}.jsonl', rows)} documents")


if __name__ == "__main__":
    main()
