"""The n-grams of benchmark items in memory, each with the texts it stands in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from megatron_redone.common.errors import DataError
from megatron_redone.curation.contamination.config import ContaminationConfig
from megatron_redone.curation.filter.benchmarks import benchmark_files, rare, rows_of, texts_of
from megatron_redone.data.ngrams import Hashes, ngram_hashes, num_cjk, unit_hashes, units

Places = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Grams:
    """The different n-grams of one length, and the texts that hold each.

    Attributes:
        keys: [k] hashes, sorted.
        starts: [k + 1] where the owners of each key begin in `texts`.
        texts: [p] numbers of texts, key by key.
    """

    keys: Hashes
    starts: Places
    texts: Places

    def find(self, grams: Hashes) -> tuple[Places, Places]:
        """(places in `grams`, numbers of their keys) of those that a benchmark holds."""
        found = np.minimum(np.searchsorted(self.keys, grams), len(self.keys) - 1)
        places = np.flatnonzero(self.keys[found] == grams)
        return places, found[places]

    def owners(self, key: int) -> Places:
        """Texts that hold a key."""
        return self.texts[self.starts[key] : self.starts[key + 1]]

    def texts_with(self, found: npt.NDArray[np.bool_], num_texts: int) -> Places:
        """[num_texts] how many of its n-grams each text has among the found keys [k]."""
        pairs = np.repeat(found, np.diff(self.starts))
        return np.bincount(self.texts[pairs], minlength=num_texts)


@dataclass(frozen=True)
class BenchmarkItems:
    """Every item of every benchmark file.

    Attributes:
        files: (benchmark, name of the file), in order.
        item_file, item_index: [items] the file's number, and the row in it from 0.
        text_item: [texts] the item of each text.
        text_is_answer: [texts] whether it stands under an answer's key.
        text_grams: [texts] how many n-grams of it count; 0 for texts that are too short, or in many rows.
        answers: for each item its answers as units with a space between and around.
        grams: by length.
    """

    files: tuple[tuple[str, str], ...]
    item_file: Places
    item_index: Places
    text_item: Places
    text_is_answer: npt.NDArray[np.bool_]
    text_grams: Places
    answers: tuple[tuple[str, ...], ...]
    grams: Mapping[int, Grams]

    @property
    def judged(self) -> npt.NDArray[np.bool_]:
        """[items] whether an item has a text long enough to tell."""
        found = np.zeros(len(self.item_file), bool)
        found[self.text_item[self.text_grams > 0]] = True
        return found


def as_searched(text_units: Sequence[str]) -> str:
    """Units with a space between and around, so that whole units alone are found in it."""
    return f" {' '.join(text_units)} "


def load_items(benchmarks: Mapping[str, Sequence[Path]], config: ContaminationConfig) -> BenchmarkItems:
    """Reads the benchmarks: name -> files or folders.

    Raises:
        DataError: a file that is no JSON, or cut; an item that cannot be read would not be checked.
    """
    builder = _Builder(config)
    for name, sources in benchmarks.items():
        for source in sources:
            for path in benchmark_files(source):
                inside = path.name if path == source else path.relative_to(source).as_posix()
                builder.add_file(name, inside, path)
    if not builder.item_index:
        raise DataError("the benchmarks have no items; give files with rows")
    return builder.finished()


class _Builder:
    def __init__(self, config: ContaminationConfig) -> None:
        self.config = config
        self.files: list[tuple[str, str]] = []
        self.item_file: list[int] = []
        self.item_index: list[int] = []
        self.text_item: list[int] = []
        self.text_is_answer: list[bool] = []
        self.answers: list[tuple[str, ...]] = []
        self.parts: dict[int, list[tuple[int, Hashes]]] = {}
        """n -> (text, its different n-grams)."""

    def add_file(self, benchmark: str, name: str, path: Path) -> None:
        self.files.append((benchmark, name))
        for index, row in rows_of(path):
            answers = []
            for text, is_answer in _texts(row, self.config):
                found = units(text)
                if is_answer and found:
                    answers.append(as_searched(found))
                self._add_text(text, found, is_answer)
            self.item_file.append(len(self.files) - 1)
            self.item_index.append(index)
            self.answers.append(tuple(dict.fromkeys(answers)))

    def _add_text(self, text: str, found: Sequence[str], is_answer: bool) -> None:
        of_characters = 2 * num_cjk(text) > len(found)
        longest = self.config.ngram_characters if of_characters else self.config.ngram_words
        n = min(len(found), longest)
        if n >= (self.config.min_characters if of_characters else self.config.min_words):
            self.parts.setdefault(n, []).append((len(self.text_item), np.unique(ngram_hashes(unit_hashes(found), n))))
        self.text_item.append(len(self.item_index))
        self.text_is_answer.append(is_answer)

    def finished(self) -> BenchmarkItems:
        text_item = np.array(self.text_item, np.int64)
        item_file = np.array(self.item_file, np.int64)
        text_grams = np.zeros(len(text_item), np.int64)
        grams = {}
        for n, parts in sorted(self.parts.items()):
            keys = np.concatenate([hashes for _, hashes in parts])
            texts = np.repeat(np.array([text for text, _ in parts]), [len(hashes) for _, hashes in parts])
            keep = _not_of_a_prompt(keys, text_item[texts], item_file, self.config.max_rows_per_ngram)
            keys, texts = keys[keep], texts[keep]
            if len(keys):
                grams[n] = _grouped(keys, texts)
                text_grams += np.bincount(texts, minlength=len(text_item))
        return BenchmarkItems(
            files=tuple(self.files),
            item_file=item_file,
            item_index=np.array(self.item_index, np.int64),
            text_item=text_item,
            text_is_answer=np.array(self.text_is_answer, bool),
            text_grams=text_grams,
            answers=tuple(self.answers),
            grams=grams,
        )


def _texts(row: Any, config: ContaminationConfig) -> list[tuple[str, bool]]:
    """(text, whether it is an answer) of all texts of a row that count."""
    if not isinstance(row, dict | list):
        return [(text, False) for text in texts_of(row, config.fields)]
    found: list[tuple[str, bool]] = []
    for key, member in row.items() if isinstance(row, dict) else enumerate(row):
        if key in config.answer_fields:
            found += [(text, True) for text in texts_of(member, ())]
        elif key in config.fields:
            found += [(text, False) for text in texts_of(member, ())]
        elif isinstance(member, dict | list):
            found += _texts(member, config)
        elif isinstance(member, str) and not config.fields:
            found.append((member, False))
    return found


def _not_of_a_prompt(keys: Hashes, items: Places, item_file: Places, limit: int) -> npt.NDArray[np.bool_]:
    """Which (key, text) pairs have a key that stands in at most `limit` rows of the text's file."""
    order = np.lexsort((items, keys))
    first = np.ones(len(keys), bool)
    first[1:] = (np.diff(keys[order]) != 0) | (np.diff(items[order]) != 0)
    kept_of_row = rare(keys[order][first], item_file[items[order][first]].astype(np.uint32), limit)
    keep = np.empty(len(keys), bool)
    keep[order] = kept_of_row[np.cumsum(first) - 1]
    return keep


def _grouped(keys: Hashes, texts: Places) -> Grams:
    order = np.lexsort((texts, keys))
    unique, starts = np.unique(keys[order], return_index=True)
    return Grams(unique, np.append(starts, len(keys)).astype(np.int64), texts[order])
