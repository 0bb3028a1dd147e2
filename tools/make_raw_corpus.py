"""A synthetic raw corpus of any size, with known faults, for measuring `redone curate filter`.

    python tools/make_raw_corpus.py OUT_FOLDER --mib 500 [--seed 0] [--file-mib 64]

Half of the documents are English, half Chinese, of 30 to 600 units: words of the Python manual, or Han characters, in
random order, so that neither rules nor MinHash find much by accident. Planted, by share: exact copies and near copies
(one unit in thirty changed) of earlier documents, markup, repetition, private data, broken encoding. `planted.json`
says how many of each.
"""

from __future__ import annotations

import argparse
import json
import pydoc_data.topics
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from megatron_redone.common.seeding import numpy_rng

REMEMBERED = 5_000
"""Documents that copies are made of: the newest."""
SHARES = {
    "exact_copy": 0.05,
    "near_copy": 0.05,
    "markup": 0.05,
    "repetition": 0.03,
    "private": 0.05,
    "encoding": 0.02,
}


class Writer:
    """Draws documents; equal seeds give equal ones."""

    def __init__(self, seed: int) -> None:
        self.draw = numpy_rng(seed, "raw corpus")
        found = Counter(re.findall(r"\b[a-z]{2,}\b", " ".join(pydoc_data.topics.topics.values())))
        self.words = np.array([word for word, _ in found.most_common()])
        self.han = np.array([chr(code) for code in self.draw.permutation(np.arange(0x4E00, 0x5E00))])
        self.recent: list[tuple[bool, Any]] = []

    def documents(self) -> Iterator[tuple[str, str]]:
        """(kind, text) without end."""
        kinds, shares = list(SHARES), np.array(list(SHARES.values()))
        while True:
            kind = self.draw.choice([*kinds, "clean"], p=[*shares, 1 - shares.sum()])
            if kind.endswith("copy") and self.recent:
                chinese, units = self.recent[self.draw.integers(len(self.recent))]
                units = units.copy()
                if kind == "near_copy":
                    changed = self.draw.random(len(units)) < 1 / 30
                    units[changed] = self.draw.choice(self.han if chinese else self.words, changed.sum())
                yield kind, self.text(chinese, units)
                continue
            chinese = bool(self.draw.random() < 0.5)
            pool = self.han if chinese else self.words
            ranks = np.minimum(
                self.draw.zipf(1.3, self.draw.integers(30, 600)) - 1 + self.draw.integers(0, 400), len(pool) - 1
            )
            units = pool[ranks]
            if len(self.recent) < REMEMBERED:
                self.recent.append((chinese, units))
            else:
                self.recent[self.draw.integers(REMEMBERED)] = (chinese, units)
            yield kind, self.spoilt(kind, self.text(chinese, units), chinese)

    def text(self, chinese: bool, units: Any) -> str:
        """Units with punctuation about every fifteen."""
        pieces = [("" if chinese else " ").join(units[i : i + 15]) for i in range(0, len(units), 15)]
        return ("，" if chinese else ", ").join(pieces) + ("。" if chinese else ".")

    def spoilt(self, kind: str, text: str, chinese: bool) -> str:
        """A text with the fault of its kind."""
        if kind == "markup":
            return f"<div class='note'><p>{text}</p><a href='/next'>next</a></div>"
        if kind == "repetition":
            return (text[:60] + ("。" if chinese else ". ")) * 12
        if kind == "private":
            return f"{text} 13{self.draw.integers(10**8, 10**9)}, name{self.draw.integers(1000)}@example.com"
        if kind == "encoding":
            return text.encode().decode("gbk" if chinese else "latin-1", "replace") + "\ufffd"
        return text


def main() -> None:
    """Writes `raw-00000.jsonl` and so on, and `planted.json`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--mib", type=int, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--file-mib", type=int, default=64)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    planted: Counter[str] = Counter()
    documents = Writer(arguments.seed).documents()
    left, number = arguments.mib << 20, 0
    while left > 0:
        size = 0
        with (arguments.out / f"raw-{number:05d}.jsonl").open("wb") as file:
            while size < min(arguments.file_mib << 20, left):
                kind, text = next(documents)
                planted[kind] += 1
                line = json.dumps({"id": f"raw-{planted.total()}", "text": text}, ensure_ascii=False) + "\n"
                size += file.write(line.encode())
        left -= size
        number += 1
    (arguments.out / "planted.json").write_text(json.dumps(dict(planted), indent=1), encoding="utf-8")
    print({str(kind): count for kind, count in planted.items()}, planted.total())


if __name__ == "__main__":
    main()
