"""Writes domains for a RegMix experiment: `OUT/DOMAIN/corpus.jsonl` and `OUT/DOMAIN_heldout/`.

    python tools/make_regmix_domains.py OUT              # the generated corpus, by language
    python tools/make_regmix_domains.py OUT DATASETS     # six domains of public data sets and the generated corpus

DATASETS holds the folders takg_weibo, davidson, lccc_toy, llamafactory_demo, weibo_ner and tweeteval as their authors
publish them. `OUT/all` is the union of the training parts, for a tokenizer. Equal texts stand once, so that no held-out
document is trained on.
"""

from __future__ import annotations

import argparse
import csv
import json
import re
from collections.abc import Iterator
from pathlib import Path

from megatron_redone.common.jsonl import read_jsonl, write_jsonl
from megatron_redone.common.seeding import derive_seed
from megatron_redone.curation.synthesize.config import SynthesizeConfig
from megatron_redone.curation.synthesize.generate import generate

HELDOUT_SHARE = 0.1
GAPS = re.compile(r"(?<=[^\x00-\x7f]) +| +(?=[^\x00-\x7f])")
VALIDATION_ONLY = ("weibo_ner", "tweeteval")
"""Sources that no domain is made of."""


def generated_domains(work: Path) -> Iterator[tuple[str, Iterator[str]]]:
    """(name, texts) of the generated corpus by language; `mixed` are glossaries and sentences with translation."""
    generate(SynthesizeConfig(), work, 0)
    rows = [value for _, value in read_jsonl(work / "corpus.jsonl")]
    for name, language in (("en", "en"), ("zh", "zh"), ("mixed", "en-zh")):
        yield name, (row["text"] for row in rows if row["language"] == language)


def public_domains(datasets: Path, work: Path) -> Iterator[tuple[str, Iterator[str]]]:
    """(name, texts) of each domain of the public data sets, and of the generated corpus as a whole."""
    demo = datasets / "llamafactory_demo"
    yield "weibo", _segmented(datasets / "takg_weibo" / "test_src.txt", datasets / "takg_weibo" / "valid_src.txt")
    yield "tweets", _tweets(datasets / "davidson" / "labeled_data.csv")
    yield "chat_zh", _segmented(datasets / "lccc_toy" / "toy_train.txt", datasets / "lccc_toy" / "toy_valid.txt")
    yield "web_en", (row["text"] for row in json.loads((demo / "c4_demo.json").read_text(encoding="utf-8")))
    for language in ("en", "zh"):
        yield f"instructions_{language}", _instructions(demo / f"alpaca_{language}_demo.json")
    yield "generated", _generated(work)
    yield "weibo_ner", _labelled_characters(datasets / "weibo_ner" / "weiboNER_2nd_conll.train")
    yield "tweeteval", _lines(datasets / "tweeteval" / "irony" / "train_text.txt")


def _lines(*files: Path) -> Iterator[str]:
    for file in files:
        yield from file.read_text(encoding="utf-8").splitlines()


def _segmented(*files: Path) -> Iterator[str]:
    """Segmented Chinese without the gaps between its words; turns of a dialogue (tabs) on lines of their own."""
    for line in _lines(*files):
        yield "\n".join(GAPS.sub("", turn) for turn in line.split("\t"))


def _tweets(file: Path) -> Iterator[str]:
    with file.open(encoding="utf-8", newline="") as rows:
        yield from (row["tweet"] for row in csv.DictReader(rows))


def _instructions(file: Path) -> Iterator[str]:
    for row in json.loads(file.read_text(encoding="utf-8")):
        yield "\n".join(part for part in (row["instruction"], row["input"], row["output"]) if part)


def _generated(work: Path) -> Iterator[str]:
    generate(SynthesizeConfig(), work, 0)
    yield from (value["text"] for _, value in read_jsonl(work / "corpus.jsonl"))


def _labelled_characters(file: Path) -> Iterator[str]:
    """Texts of a file with a character, a segmentation mark and a label a line, and blank lines between texts."""
    for block in file.read_text(encoding="utf-8").split("\n\n"):
        yield "".join(line[0] for line in block.splitlines() if line)


def main() -> None:
    """Writes all domains and tells their sizes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("datasets", type=Path, nargs="?")
    arguments = parser.parse_args()
    work = arguments.out / "synthesize"
    found = generated_domains(work) if arguments.datasets is None else public_domains(arguments.datasets, work)
    union: list[dict[str, str]] = []
    seen: set[str] = set()
    for name, texts in found:
        parts: dict[bool, list[dict[str, str]]] = {False: [], True: []}
        for number, text in enumerate(texts):
            if (text := text.strip()) and text not in seen:
                seen.add(text)
                held_out = name in VALIDATION_ONLY or derive_seed("regmix", text) % 1000 < 1000 * HELDOUT_SHARE
                parts[held_out].append({"id": f"{name}-{number}", "text": text, "source": name})
        for held_out, rows in parts.items():
            if rows:
                folder = arguments.out / (f"{name}_heldout" if held_out else name)
                write_jsonl(folder / "corpus.jsonl", rows)
                print(f"{folder.name}: {len(rows)} documents, {sum(len(row['text']) for row in rows)} characters")
        union += parts[False]
    write_jsonl(arguments.out / "all" / "corpus.jsonl", union)


if __name__ == "__main__":
    main()
