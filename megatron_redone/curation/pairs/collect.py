"""From the pairs of all sources to the files of a training set: checked, once each, balanced, split, counted.

Only a line about each pair is held in memory; the pairs themselves pass through a file in the work folder.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from megatron_redone.common.files import atomic_write_json
from megatron_redone.common.jsonl import read_jsonl, write_jsonl
from megatron_redone.common.seeding import derive_seed
from megatron_redone.curation.held_out import HeldOut
from megatron_redone.curation.pairs.checks import PromptWriter
from megatron_redone.curation.pairs.config import PairsConfig
from megatron_redone.curation.pairs.lengths import length_report
from megatron_redone.curation.pairs.pair import Pair

COLLECTED = "collected.jsonl"
REPORT = "report.json"
TRAIN, VALIDATION = "train", "validation"


@dataclass(slots=True)
class Entry:
    """What is remembered of a collected pair."""

    id: str
    prompt_key: str
    task: str
    how: str
    source: str
    chosen_characters: int
    rejected_characters: int
    chosen_tokens: int | None
    rejected_tokens: int | None


class Collector:
    """Takes pairs that stand up to the checks into the work folder."""

    def __init__(
        self, config: PairsConfig, work: Path, writer: PromptWriter, seed: int, held_out: HeldOut | None = None
    ) -> None:
        self.config, self.work, self.writer, self.seed = config, work, writer, seed
        self.held_out = held_out
        self.entries: dict[str, Entry] = {}
        self.found: Counter[str] = Counter()
        self.dropped: Counter[tuple[str, str]] = Counter()
        self._order: dict[str, str] = {}
        """By two answers without their order: the id of the pair that was collected, "" once both orders were met."""

    def collect(self, pairs: Iterable[Pair]) -> None:
        """Writes the pairs that stand up to the checks to the collected file; counts the others by reason."""
        write_jsonl(self.work / COLLECTED, self._lines(pairs))

    def _lines(self, pairs: Iterable[Pair]) -> Iterator[dict[str, Any]]:
        for pair in pairs:
            self.found[pair.how] += 1
            line, reason = self._checked(pair)
            if line is None:
                self.dropped[pair.how, reason] += 1
            else:
                yield line

    def _checked(self, pair: Pair) -> tuple[dict[str, Any] | None, str]:
        if pair.same_answers:
            return None, "equal_answers"
        if pair.worse_chosen:
            return None, "rejected_not_worse"
        longer, shorter = sorted((len(pair.chosen), len(pair.rejected)), reverse=True)
        if self.config.max_length_ratio is not None and longer > self.config.max_length_ratio * shorter:
            return None, "over_length_ratio"
        if pair.id in self.entries:
            return None, "duplicate"
        near = self.held_out.reason_for(pair.row, self._texts(pair)) if self.held_out is not None else None
        if near is not None:
            return None, f"held_out_{near}"
        checked = self.writer.check(pair)
        if checked.problem:
            return None, checked.problem
        other = self._order.setdefault(pair.unordered_key, pair.id)
        if other != pair.id:
            earlier = self.entries.pop(other, None)
            self._order[pair.unordered_key] = ""
            if earlier is not None:
                self.dropped[earlier.how, "contradiction"] += 1
            return None, "contradiction"
        self.entries[pair.id] = Entry(
            pair.id, pair.prompt_key, pair.task, pair.how, _file_of(pair.source), len(pair.chosen), len(pair.rejected),
            checked.chosen_tokens, checked.rejected_tokens,
        )  # fmt: skip
        return pair.to_json(checked.prompt), ""

    @staticmethod
    def _texts(pair: Pair) -> list[Any]:
        """All that is trained on, and the fields of the row, which the prompt may have cut."""
        fields = pair.origin.to_json() if pair.origin is not None else {}
        return [[dict(message) for message in pair.messages], pair.chosen, pair.rejected, fields]

    def publish(self) -> dict[str, Any]:
        """Writes train.jsonl, validation.jsonl and report.json, and removes the collected file; returns the report."""
        chosen = self._chosen()
        split = {entry.id: self._split(entry) for entry in chosen}
        for name in (TRAIN, VALIDATION):
            write_jsonl(self.work / f"{name}.jsonl", self._of_split(split, name))
        (self.work / COLLECTED).unlink()
        report = self._report(chosen, split)
        atomic_write_json(self.work / REPORT, report)
        return report

    def _chosen(self) -> list[Entry]:
        """Of each task what length balance and caps leave, and of that what the cap over all leaves."""
        by_task: dict[str, list[Entry]] = defaultdict(list)
        for entry in sorted(self.entries.values(), key=lambda entry: derive_seed(self.seed, "choose", entry.id)):
            by_task[entry.task].append(entry)
        tasks = []
        for task in sorted(by_task):
            entries = by_task[task]
            if self.config.balance_length:
                entries = self._kept(entries, length_balanced(entries), "length_balance")
            in_turn_of_sources = in_turn(entries, lambda entry: entry.how)
            capped = in_turn_of_sources[: self.config.max_pairs_per_task]
            tasks += self._kept(entries, capped, "over_max_pairs_per_task")
        return self._kept(tasks, in_turn(tasks, lambda entry: entry.task)[: self.config.max_pairs], "over_max_pairs")

    def _kept(self, before: Sequence[Entry], after: list[Entry], reason: str) -> list[Entry]:
        self.dropped.update((entry.how, reason) for entry in before)
        self.dropped.subtract((entry.how, reason) for entry in after)
        return after

    def _split(self, entry: Entry) -> str:
        """By the prompt alone: all pairs of a row stand on one side, in every run and with every other setting."""
        place = derive_seed("preference pairs", "split", entry.prompt_key) / 2**63
        return VALIDATION if place < self.config.validation_share else TRAIN

    def _of_split(self, split: dict[str, str], name: str) -> Iterator[dict[str, Any]]:
        for _, value in read_jsonl(self.work / COLLECTED):
            if split.get(value["id"]) == name:
                yield value

    def _report(self, chosen: Sequence[Entry], split: dict[str, str]) -> dict[str, Any]:
        by_task: dict[str, list[Entry]] = defaultdict(list)
        pairs: Counter[tuple[str, str, str, str]] = Counter()
        for entry in chosen:
            by_task[entry.task].append(entry)
            pairs[entry.task, entry.how, entry.source, split[entry.id]] += 1
        dropped: dict[str, dict[str, int]] = {}
        for (how, reason), count in sorted(self.dropped.items()):
            if count:
                dropped.setdefault(how, {})[reason] = count
        return {
            "found": dict(sorted(self.found.items())),
            "dropped": dropped,
            "kept": {name: sum(value == name for value in split.values()) for name in (TRAIN, VALIDATION)},
            "pairs": [
                {"task": task, "how": how, "source": source, "split": name, "pairs": count}
                for (task, how, source, name), count in sorted(pairs.items())
            ],
            "lengths": {"all": length_report(chosen)}
            | {task: length_report(by_task[task]) for task in sorted(by_task)},
        }


def in_turn(entries: Sequence[Entry], group: Callable[[Entry], str]) -> list[Entry]:
    """The entries with one of each group in turn, each group in its own order: a cut leaves the groups even."""
    places: Counter[str] = Counter()
    keyed = []
    for entry in entries:
        keyed.append((places[group(entry)], group(entry), entry))
        places[group(entry)] += 1
    return [entry for _, _, entry in sorted(keyed, key=lambda item: item[:2])]


def length_balanced(entries: Sequence[Entry]) -> list[Entry]:
    """As many entries whose chosen answer is longer as entries whose rejected one is; equal lengths all stay."""
    more = [entry.chosen_characters - entry.rejected_characters for entry in entries]
    sides = [(difference > 0) - (difference < 0) for difference in more]
    room = min(sides.count(1), sides.count(-1))
    left = {1: room, -1: room, 0: len(entries)}
    kept = []
    for entry, side in zip(entries, sides, strict=True):
        if left[side]:
            left[side] -= 1
            kept.append(entry)
    return kept


def _file_of(source: str) -> str:
    """The source without the place in it, for counts."""
    return source.partition("#")[0].partition(".jsonl:")[0]


def summary(report: dict[str, Any]) -> dict[str, int | float]:
    """The counts of a manifest."""
    counts: dict[str, int | float] = {f"found/{how}": count for how, count in report["found"].items()}
    counts |= {f"dropped/{how}/{reason}": n for how, all_ in report["dropped"].items() for reason, n in all_.items()}
    for reason in ("id", "ngrams"):
        counts[f"held_out/{reason}"] = sum(of.get(f"held_out_{reason}", 0) for of in report["dropped"].values())
    counts |= {f"pairs/{name}": count for name, count in report["kept"].items()}
    lengths = report["lengths"]["all"]
    return counts | {name: lengths[name] for name in ("longer_is_chosen",) if name in lengths}
