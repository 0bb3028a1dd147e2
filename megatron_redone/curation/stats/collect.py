"""Statistics of a data set in one pass: memory for the different lengths and names, and eight bytes a row."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from megatron_redone.common.errors import DataError
from megatron_redone.common.seeding import derive_seed
from megatron_redone.curation.sft.build import summary
from megatron_redone.curation.sft.formats import Defaults, language_of, read_conversation
from megatron_redone.curation.sft.pool import MAX_PROBLEMS_KEPT, SourceFile, check_refused_share, source_name
from megatron_redone.curation.sft.records import read_records
from megatron_redone.curation.stats.config import DataStatsConfig
from megatron_redone.curation.stats.labellers import CategoryLabeller
from megatron_redone.data.chat_template import ChatTemplate
from megatron_redone.data.conversation import Message, check_unicode
from megatron_redone.data.lengths import LengthHistogram
from megatron_redone.reporting.data_schema import DataStatsResult, LengthBar, LengthResult, TaskLengths

MAX_NAMES = 1000
"""So many different tasks, sources, ... are told apart; further ones count as OTHERS."""
OTHERS = "(others)"
MAX_LANGUAGE_CHARACTERS = 2000
"""The language of a document shows in its beginning."""


@dataclass(frozen=True)
class StatsRow:
    """What is counted of a row."""

    id: str
    task: str
    capability: str
    language: str
    source: str
    question: str
    """What the label is about: the user's turns, or a document's text."""
    answers: Sequence[str]
    messages: Sequence[Message]
    """Empty for a document."""


class Lengths:
    """Length of a row and of its answers, in tokens of a tokenizer or in characters."""

    def __init__(self, template: ChatTemplate | None) -> None:
        self.template = template
        self.unit = "tokens" if template else "characters"

    def of_row(self, row: StatsRow) -> int:
        """Length of a whole row; raises DataError for a conversation that the chat template refuses."""
        if self.template is None:
            return sum(len(message["content"]) for message in row.messages) if row.messages else len(row.question)
        if row.messages:
            return len(self.template.training_ids(row.messages).token_ids)
        return len(self.template.tokenizer.encode(row.question))

    def of_text(self, text: str) -> int:
        """Length of an answer."""
        return len(self.template.answer_ids(text)) if self.template else len(text)


class Collector:
    """Counts rows one by one."""

    def __init__(self, lengths: Lengths) -> None:
        self.measure = lengths
        self.lengths, self.answers = LengthHistogram(), LengthHistogram()
        self.turns: Counter[int] = Counter()
        self.names: dict[str, Counter[str]] = {
            kind: Counter() for kind in ("capability", "language", "source", "area", "topic")
        }
        self.tasks: dict[tuple[str, str], LengthHistogram] = {}
        self.ids = array("q")
        self.conversations = self.labelled = self.unreadable = 0

    def add(self, row: StatsRow) -> None:
        """Counts a row; raises DataError, and counts nothing, where its length cannot be told."""
        length = self.measure.of_row(row)
        self.lengths.add(length)
        for answer in row.answers:
            self.answers.add(self.measure.of_text(answer))
        if row.messages:
            self.conversations += 1
            self.turns[len(row.answers)] += 1
        for kind, name in (("capability", row.capability), ("language", row.language), ("source", row.source)):
            self._count(kind, name)
        task = (row.task, row.capability)
        if task not in self.tasks and len(self.tasks) >= MAX_NAMES:
            task = (OTHERS, OTHERS)
        self.tasks.setdefault(task, LengthHistogram()).add(length)
        self.ids.append(derive_seed("id", row.id))

    def label(self, rows: Sequence[StatsRow], labeller: CategoryLabeller) -> None:
        """Counts the categories of rows."""
        for category in labeller.label([row.question for row in rows]):
            self.labelled += 1
            if category is None:
                self.unreadable += 1
            else:
                self._count("area", category.area)
                self._count("topic", category.text)

    def _count(self, kind: str, name: str) -> None:
        counter = self.names[kind]
        counter[name if name in counter or len(counter) < MAX_NAMES else OTHERS] += 1

    def result(self, title: str, inputs: Sequence[str], refused: int, labeller: str) -> DataStatsResult:
        """What was counted, the largest first."""
        tasks = sorted(self.tasks.items(), key=lambda item: (-item[1].count, item[0]))
        ids = np.frombuffer(self.ids, dtype=np.int64)
        return DataStatsResult(
            title=title,
            inputs=tuple(inputs),
            unit="tokens" if self.measure.template else "characters",
            rows=self.lengths.count,
            conversations=self.conversations,
            refused=refused,
            repeated_ids=len(ids) - len(np.unique(ids)),
            lengths=_length_result(self.lengths),
            answers=_length_result(self.answers) if self.conversations else None,
            turns={str(turns): self.turns[turns] for turns in sorted(self.turns)},
            tasks=tuple(
                TaskLengths(
                    task=task, capability=capability, rows=h.count, median=h.quantile(0.5), p95=h.quantile(0.95)
                )
                for (task, capability), h in tasks
            ),
            capabilities=_ranked(self.names["capability"]),
            languages=_ranked(self.names["language"]),
            sources=_ranked(self.names["source"]),
            labeller=labeller,
            labelled=self.labelled,
            unreadable_labels=self.unreadable,
            areas=_ranked(self.names["area"]),
            topics=_ranked(self.names["topic"]),
        )


def collect(
    config: DataStatsConfig,
    files: Sequence[SourceFile],
    lengths: Lengths,
    labeller: CategoryLabeller | None,
    max_refused_share: float,
    seed: int,
) -> tuple[DataStatsResult, list[str]]:
    """Statistics of all files, and one line `file:line: reason` per refused row.

    Raises:
        DataError: a file without a good row, or with more than `max_refused_share` bad ones.
    """
    collector = Collector(lengths)
    refused: list[str] = []
    num_refused = 0
    batch: list[StatsRow] = []
    for file in files:
        of_file: list[str] = []
        counts = {"rows": 0, "refused": 0, "too_long": 0}
        for row in _rows(config, file):
            problem = row if isinstance(row, str) else _add(collector, row, file.path)
            counts["refused" if problem else "rows"] += 1
            if problem and len(of_file) < MAX_PROBLEMS_KEPT:
                of_file.append(problem)
            if problem or isinstance(row, str) or labeller is None:
                continue
            if derive_seed(seed, "label", row.id) < config.label_share * 2**63:
                batch.append(row)
            if len(batch) == config.label_batch:
                collector.label(batch, labeller)
                batch = []
        check_refused_share(file.path, counts, of_file, max_refused_share)
        refused += of_file
        num_refused += counts["refused"]
    if labeller is not None and batch:
        collector.label(batch, labeller)
    name = labeller.name if labeller else "none"
    return collector.result(config.title, [file.name for file in files], num_refused, name), refused


def _add(collector: Collector, row: StatsRow, path: Path) -> str | None:
    try:
        collector.add(row)
    except DataError as error:
        return f"{path}: row {row.id!r}: {error}"
    return None


def _rows(config: DataStatsConfig, file: SourceFile) -> Iterator[StatsRow | str]:
    task = file.path.name.partition(".")[0]
    for record in read_records(file.path):
        where = f"{file.path}:{record.line}"
        if record.value is None:
            yield f"{where}: {record.problem}"
            continue
        row_id = f"{file.name}#{record.index}"
        document = config.format == "document" or (config.format == "auto" and _is_document(record.value))
        try:
            if document:
                yield _document(record.value, where, row_id, task, file.name, config.latin_language)
            else:
                defaults = Defaults(row_id, task, "unknown", file.name, config.latin_language)
                yield _conversation(record.value, where, defaults, config)
        except DataError as error:
            yield str(error)


def _is_document(value: Mapping[str, Any]) -> bool:
    return "text" in value and not value.keys() & {"messages", "conversations", "instruction", "fields"}


def _document(
    value: Mapping[str, Any], where: str, row_id: str, task: str, source: str, latin_language: str
) -> StatsRow:
    text = value.get("text")
    if not isinstance(text, str) or not text.strip():
        raise DataError(f"{where}: no text under the key `text`; each row of a corpus is {{'id': ..., 'text': ...}}")
    check_unicode(text, where)
    names = {key: value[key] for key in ("id", "language", "source") if isinstance(value.get(key), str)}
    language = names.get("language") or language_of(text[:MAX_LANGUAGE_CHARACTERS], latin_language)
    source = source_name(names.get("source") or source)
    return StatsRow(names.get("id") or row_id, task, "corpus", language, source, text, (), ())


def _conversation(value: Mapping[str, Any], where: str, defaults: Defaults, config: DataStatsConfig) -> StatsRow:
    assert config.format != "document"
    found = read_conversation(value, where, defaults, config.format)
    contents: dict[str, list[str]] = {"user": [], "assistant": [], "system": []}
    for message in found.messages:
        contents[message["role"]].append(message["content"])
    question = "\n".join(contents["user"])
    source = source_name(found.source)
    answers = contents["assistant"]
    return StatsRow(found.id, found.task, found.capability, found.language, source, question, answers, found.messages)


def _length_result(lengths: LengthHistogram) -> LengthResult:
    bars = tuple(LengthBar(low=low, high=high, count=count) for low, high, count in lengths.bars())
    return LengthResult(summary=summary(lengths), bars=bars)


def _ranked(counter: Counter[str]) -> dict[str, int]:
    return dict(sorted(counter.items(), key=lambda item: (-item[1], item[0])))
