"""Which benchmark items stand in training files: all training texts are read once, one record at a time.

An item's share is the largest share of n-grams that one of its texts (question, context, answer, ...) has in the
training files together; a benchmark row that is known but for its answer so counts as known. Memory is bounded by the
benchmarks: for each different n-gram one bit a training file, and for each text the record that holds most of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from megatron_redone.common.errors import DataError
from megatron_redone.common.files import atomic_directory, atomic_write_json
from megatron_redone.common.jsonl import write_jsonl
from megatron_redone.common.logging import Progress
from megatron_redone.curation.contamination.config import ContaminationConfig
from megatron_redone.curation.contamination.index import BenchmarkItems, Grams, Places, as_searched, load_items
from megatron_redone.curation.contamination.training_texts import TrainingRecord, read_training, training_files
from megatron_redone.curation.interactions.reading import Refusals
from megatron_redone.data.ngrams import ngram_hashes, unit_hashes, units
from megatron_redone.reporting.contamination_page import write_contamination_page
from megatron_redone.reporting.contamination_schema import (
    ITEMS,
    RESULT,
    BenchmarkOverlap,
    ContaminationResult,
    Example,
    FileOverlap,
    Overlap,
    TrainingFile,
)

Decode = Callable[[Sequence[int]], str]
Flags = npt.NDArray[np.bool_]
Shares = npt.NDArray[np.float64]


def check_contamination(
    training: Sequence[Path],
    benchmarks: Mapping[str, Sequence[Path]],
    config: ContaminationConfig,
    out: Path,
    decode: Decode | None = None,
) -> ContaminationResult:
    """Searches the training files for the benchmarks' n-grams; writes JSON, every overlapping item, and the page.

    Args:
        training: files or folders.
        benchmarks: name -> files or folders.
        out: the new folder.
        decode: token ids to text, for token shards.

    Raises:
        DataError: a file that cannot be read to its end, no items or no texts, or too many broken lines.
    """
    files = list(dict.fromkeys(path for source in training for path in training_files(source)))
    items = load_items(benchmarks, config)
    search = _Search(items, config)
    refusals = Refusals(config.max_refused_share)
    found = []
    with Progress("contamination", sum(path.stat().st_size for path in files), "bytes") as progress:
        for path in files:
            refused_before = refusals.num_refused
            records = 0
            for record in read_training(path, refusals, decode):
                search.add(record)
                records += 1
            found.append(search.end_file(path, records, refusals.num_refused - refused_before))
            progress.advance(path.stat().st_size)
    refusals.check()
    if not any(file.records for file in found):
        raise DataError("the training files hold no records; give files with texts")
    examples = search.examples()
    result = ContaminationResult(
        benchmarks=_by_benchmark(items, search, examples, config),
        training=tuple(found),
        refused=refusals.num_refused,
        refused_messages=tuple(refusals.messages),
        settings=config.model_dump(mode="json"),
    )
    with atomic_directory(out) as folder:
        atomic_write_json(folder / RESULT, result.model_dump(mode="json"))
        write_jsonl(folder / ITEMS, (example.model_dump(mode="json") for example in examples))
        write_contamination_page(result, folder)
    return result


class _Search:
    """What was found so far."""

    def __init__(self, items: BenchmarkItems, config: ContaminationConfig) -> None:
        self.items, self.config = items, config
        self.found = {n: np.zeros(len(grams.keys), bool) for n, grams in items.grams.items()}
        self.found_in_file = {n: np.zeros(len(grams.keys), bool) for n, grams in items.grams.items()}
        num_texts, num_items = len(items.text_item), len(items.item_index)
        self.best_share: Shares = np.zeros(num_texts)
        """[texts] largest share that one record holds."""
        self.best_place: dict[int, tuple[str, str]] = {}
        """text -> that record, and the first n-gram found in it."""
        self.with_answer: Flags = np.zeros(num_items, bool)
        self.with_answer_in_file: Flags = np.zeros(num_items, bool)

    def add(self, record: TrainingRecord) -> None:
        """Compares one record with all items."""
        texts = [units(text) for text in record.texts]
        first: dict[int, tuple[int, int, int]] = {}
        """benchmark text -> (text of the record, unit, n) of the first n-gram found."""
        shared: dict[int, int] = {}
        """benchmark text -> how many of its n-grams the record holds."""
        hashes = [unit_hashes(found) for found in texts]
        for n, grams in self.items.grams.items():
            seen: set[int] = set()
            for number, of_text in enumerate(hashes):
                for place, key in zip(*grams.find(ngram_hashes(of_text, n)), strict=True):
                    if int(key) in seen:
                        continue
                    seen.add(int(key))
                    for owner in grams.owners(int(key)).tolist():
                        shared[owner] = shared.get(owner, 0) + 1
                        first.setdefault(owner, (number, int(place), n))
            self.found_in_file[n][list(seen)] = True
        self._keep_best(record, texts, shared, first)
        self._look_for_answers(texts, shared)

    def _keep_best(
        self,
        record: TrainingRecord,
        texts: Sequence[Sequence[str]],
        shared: Mapping[int, int],
        first: Mapping[int, tuple[int, int, int]],
    ) -> None:
        for owner, count in shared.items():
            share = count / self.items.text_grams[owner]
            if share > self.best_share[owner]:
                self.best_share[owner] = share
                number, unit, n = first[owner]
                self.best_place[owner] = (record.where(number, unit), " ".join(texts[number][unit : unit + n]))

    def _look_for_answers(self, texts: Sequence[Sequence[str]], shared: Mapping[int, int]) -> None:
        """Notes the items of which this record holds a good part of a text that is no answer, and a whole answer."""
        asked = {
            int(self.items.text_item[owner])
            for owner, count in shared.items()
            if not self.items.text_is_answer[owner]
            and count >= self.config.partial_share * self.items.text_grams[owner]
        }
        asked = {item for item in asked if self.items.answers[item] and not self.with_answer_in_file[item]}
        if asked:
            searched = [as_searched(found) for found in texts]
            for item in asked:
                answers = self.items.answers[item]
                self.with_answer_in_file[item] = any(answer in text for answer in answers for text in searched)

    def end_file(self, path: Path, records: int, refused: int) -> TrainingFile:
        """What the file holds by itself; the next record belongs to another one."""
        any_overlap, shares = _item_shares(self.items, self.found_in_file)
        overlap = count_overlap(self.items, any_overlap, shares, self.with_answer_in_file, self.config)
        by_benchmark = {
            name: int(any_overlap[_items_of(self.items, name)].sum())
            for name in dict.fromkeys(benchmark for benchmark, _ in self.items.files)
        }
        for n, flags in self.found_in_file.items():
            self.found[n] |= flags
            flags[:] = False
        self.with_answer |= self.with_answer_in_file
        self.with_answer_in_file[:] = False
        return TrainingFile(
            path=str(path), records=records, refused=refused, overlap=overlap, by_benchmark=by_benchmark
        )

    def shares(self) -> tuple[Flags, Shares]:
        """[items] any overlap, and the share, of all files so far."""
        return _item_shares(self.items, self.found)

    def examples(self) -> list[Example]:
        """Every item with overlap, those with the largest share of each benchmark first."""
        any_overlap, shares = self.shares()
        best_text: dict[int, int] = {}
        for text in self.best_place:
            item = int(self.items.text_item[text])
            if item not in best_text or self.best_share[text] > self.best_share[best_text[item]]:
                best_text[item] = text
        found = []
        for item in np.flatnonzero(any_overlap).tolist():
            benchmark, file = self.items.files[self.items.item_file[item]]
            place, gram = self.best_place[best_text[item]]
            found.append(
                Example(
                    benchmark=benchmark,
                    file=file,
                    index=int(self.items.item_index[item]),
                    share=float(shares[item]),
                    record_share=float(self.best_share[best_text[item]]),
                    training=place,
                    with_answer=bool(self.with_answer[item]),
                    shared=gram,
                )
            )
        order = {name: place for place, (name, _) in enumerate(self.items.files)}
        return sorted(found, key=lambda one: (order[one.benchmark], -one.share, -one.record_share, one.file, one.index))


def _item_shares(items: BenchmarkItems, found: Mapping[int, Flags]) -> tuple[Flags, Shares]:
    """[items] whether any n-gram is found; the largest share over the item's texts."""
    counts: Places = np.zeros(len(items.text_item), np.int64)
    for n, grams in items.grams.items():
        counts += _counts(grams, found[n], len(counts))
    shares: Shares = np.zeros(len(items.item_index))
    np.maximum.at(shares, items.text_item, counts / np.maximum(items.text_grams, 1))
    return shares > 0, shares


def _counts(grams: Grams, found: Flags, num_texts: int) -> Places:
    return grams.texts_with(found, num_texts) if found.any() else np.zeros(num_texts, np.int64)


def count_overlap(
    items: BenchmarkItems,
    any_overlap: Flags,
    shares: Shares,
    with_answer: Flags,
    config: ContaminationConfig,
    chosen: Flags | None = None,
) -> Overlap:
    """Counts the items (the chosen ones, [items]) by level."""
    of = np.ones(len(shares), bool) if chosen is None else chosen
    return Overlap(
        items=int(of.sum()),
        judged=int((of & items.judged).sum()),
        any_overlap=int((of & any_overlap).sum()),
        partial=int((of & (shares >= config.partial_share)).sum()),
        contaminated=int((of & (shares >= config.contaminated_share)).sum()),
        with_answer=int((of & with_answer).sum()),
    )


def _items_of(items: BenchmarkItems, benchmark: str) -> Flags:
    of_file = np.array([name == benchmark for name, _ in items.files])
    return np.asarray(of_file[items.item_file])


def _by_benchmark(
    items: BenchmarkItems, search: _Search, examples: Sequence[Example], config: ContaminationConfig
) -> tuple[BenchmarkOverlap, ...]:
    any_overlap, shares = search.shares()

    def counted(chosen: Flags) -> Overlap:
        return count_overlap(items, any_overlap, shares, search.with_answer, config, chosen)

    return tuple(
        BenchmarkOverlap(
            name=name,
            overlap=counted(_items_of(items, name)),
            files=tuple(
                FileOverlap(file=file, overlap=counted(items.item_file == number))
                for number, (benchmark, file) in enumerate(items.files)
                if benchmark == name
            ),
            examples=tuple([one for one in examples if one.benchmark == name][: config.examples]),
        )
        for name in dict.fromkeys(benchmark for benchmark, _ in items.files)
    )
