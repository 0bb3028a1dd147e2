"""The steps that a task of a pass is made of, as datatrove runs them."""

from __future__ import annotations

import gzip
import itertools
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from datatrove.data import Document
from datatrove.pipeline.base import PipelineStep

from megatron_redone.common.files import atomic_write_json, disk_full_reported
from megatron_redone.common.seeding import numpy_rng
from megatron_redone.curation.filter.account import Account, logprob_bin
from megatron_redone.curation.filter.benchmarks import BenchmarkIndex, write_index
from megatron_redone.curation.filter.config import DecontaminationConfig, FilterConfig, LanguageModelConfig, ToneConfig
from megatron_redone.curation.filter.identity import (
    hash_text,
    later_of_same_key,
    read_places,
    records_in_range,
    save,
    without_places,
    write_places,
    write_records,
)
from megatron_redone.curation.filter.likelihood import LikelihoodModel, bounds, likelihood_problem
from megatron_redone.curation.filter.pieces import Piece
from megatron_redone.curation.filter.reading import Refusal, read_piece
from megatron_redone.curation.filter.rules import judge
from megatron_redone.curation.filter.tone import ToneModel

Documents = Iterable[Document]
SCORE = np.dtype([("score", "<f4"), ("language", "U3")])
"""What the language model says of a document."""
CORPUS_PREFIX = "corpus-"
GZIP_LEVEL = 1
"""Text between passes is read once or twice; the highest level would cost more than all rules."""


def shard_name(rank: int, prefix: str = "") -> str:
    """File name of a shard."""
    return f"{prefix}{rank:05d}.jsonl.gz"


class Step(PipelineStep):
    """A step of ours. Everything in it is plain data: datatrove copies it to the process that runs the task."""

    type = "FILTER"

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name


@dataclass(frozen=True)
class Accounts:
    """Where the accounts of tasks go, and what they are made with."""

    folder: Path
    config: FilterConfig
    seed: int

    def new(self) -> Account:
        """An empty account."""
        return Account(self.seed, self.config.samples_per_reason, self.config.sample_characters)

    def write(self, name: str, account: Account, rank: int) -> None:
        """Writes the account of a task that has seen its last document."""
        account.write(self.folder / name / f"{rank:05d}.json")


def drop(account: Account, document: Document, reason: str, detail: str) -> None:
    """Counts a document as dropped."""
    fields = document.metadata
    account.drop(reason, detail, document.id, document.text, fields["units"], fields["place"])


class ReadAndJudge(Step):
    """Reads the pieces of a task and applies the rules."""

    def __init__(self, pieces: list[list[Piece]], accounts: Accounts) -> None:
        super().__init__("rules")
        self.pieces, self.accounts = pieces, accounts

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        """Yields the documents that pass."""
        account = self.accounts.new()
        for item in itertools.chain.from_iterable(read_piece(piece) for piece in self.pieces[rank]):
            if isinstance(item, Refusal):
                account.line(item.label, item.message, item.is_line)
                continue
            account.line(item.place.rpartition(":")[0])
            judged = judge(item.text, self.accounts.config)
            account.count("read", item.text, judged.num_units)
            if judged.reason is not None:
                account.drop(judged.reason, judged.detail, item.id, judged.text, judged.num_units, item.place)
                continue
            account.change(judged.changed)
            known = {"place": item.place, "units": judged.num_units, "language": judged.language}
            yield Document(judged.text, item.id, metadata={**known, "fields": item.fields})
        self.accounts.write(self.name, account, rank)


class WriteShard(Step):
    """Writes the documents of a task as one compressed file, whole or not at all, and hands them on."""

    prefix = ""
    """Begins the name of each file."""

    def __init__(self, name: str, folder: Path) -> None:
        super().__init__(name)
        self.folder = str(folder)

    def line(self, document: Document) -> dict[str, Any]:
        """What is written of a document."""
        return {"id": document.id, "text": document.text, "metadata": document.metadata}

    def run(self, data: Documents, rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        """Yields what comes."""
        path = Path(self.folder) / shard_name(rank, self.prefix)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.tmp")
        with (
            disk_full_reported(path),
            temporary.open("wb") as raw,
            gzip.GzipFile("", "wb", GZIP_LEVEL, raw, mtime=0) as file,
        ):
            for document in data:
                file.write(_json_line(self.line(document)))
                yield document
        temporary.replace(path)


def _json_line(value: dict[str, Any]) -> bytes:
    """A line of JSON; what UTF-8 cannot hold (half of a surrogate pair in some field) is escaped."""
    try:
        return (json.dumps(value, ensure_ascii=False) + "\n").encode("utf-8")
    except UnicodeEncodeError:
        return (json.dumps(value) + "\n").encode("ascii")


class ReadShard(Step):
    """Reads what `WriteShard` wrote."""

    def __init__(self, folder: Path) -> None:
        super().__init__("read")
        self.folder = str(folder)

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        """Yields the documents of the task's shard."""
        with gzip.open(Path(self.folder) / shard_name(rank), "rb") as file:
            for raw in file:
                value = json.loads(raw)
                yield Document(value["text"], value["id"], metadata=value["metadata"])


class WriteRecords(Step):
    """Hashes of ids and texts, for `FindRepeated`. The last step of its task."""

    def __init__(self, folder: Path) -> None:
        super().__init__("hashes")
        self.folder = str(folder)

    def run(self, data: Documents, rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        """Consumes the documents."""
        ids, texts = [], []
        for document in data:
            ids.append(hash_text(document.id))
            texts.append(hash_text(document.text))
        folder = Path(self.folder)
        write_records(folder / "ids" / f"{rank:05d}.npy", ids, texts, rank)
        write_records(folder / "texts" / f"{rank:05d}.npy", texts, ids, rank)
        return iter(())


class FindRepeated(Step):
    """Later documents of the same id with another text, or of the same text; each task takes one range of hashes.

    Args:
        what: `ids` or `texts`.
        without: folder of places that do not count, or None.
    """

    def __init__(self, what: str, records: Path, places: Path, num_shards: int, without: Path | None = None) -> None:
        super().__init__(f"repeated {what}")
        self.what, self.records, self.places, self.num_shards = what, str(records), str(places), num_shards
        self.without = str(without) if without is not None else None

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        """Writes the places of repeated documents."""
        records = records_in_range(Path(self.records) / self.what, rank, world_size)
        if self.without is not None:
            records = without_places(records, Path(self.without), self.num_shards)
        repeated = later_of_same_key(records, different_only=self.what == "ids")
        write_places(Path(self.places) / f"{rank:05d}", repeated, self.num_shards)
        return iter(())


class DropRepeated(Step):
    """Leaves out what `FindRepeated` found; with `accounted` it is counted as well."""

    def __init__(self, ids: Path, texts: Path, accounts: Accounts, accounted: bool = True) -> None:
        super().__init__("exact")
        self.ids, self.texts, self.accounts, self.accounted = str(ids), str(texts), accounts, accounted

    def run(self, data: Documents, rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        """Yields the documents that are first of their text, and of their id."""
        account = self.accounts.new()
        ids = set(read_places(Path(self.ids), rank).tolist())
        texts = set(read_places(Path(self.texts), rank).tolist())
        for index, document in enumerate(data):
            if index in ids:
                drop(account, document, "repeated_id", "the id stood before with another text")
                place = document.metadata["place"]
                account.line(
                    place.rpartition(":")[0],
                    f"{place}: id={document.id!r} stood before with another text; ids must be unique",
                    is_line=False,
                )
            elif index in texts:
                drop(account, document, "exact_duplicate", "the same text stood before")
            else:
                yield document
        if self.accounted:
            self.accounts.write(self.name, account, rank)


class NearDuplicateRecorder:
    """What datatrove's MinHash filter hands the documents to that it drops (its exclusion writer)."""

    def __init__(self, accounts: Accounts) -> None:
        self.accounts = accounts
        self._account: Account | None = None
        self._rank = 0

    def __enter__(self) -> NearDuplicateRecorder:
        self._account = self.accounts.new()
        return self

    def write(self, document: Document, rank: int) -> None:
        """Counts one document."""
        assert self._account is not None
        self._rank = rank
        drop(self._account, document, "near_duplicate", "MinHash: much of an earlier text")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._account is not None
        if kind is None and self._account.tallies:
            self.accounts.write("minhash", self._account, self._rank)
        self._account = None


class IndexBenchmarks(Step):
    """Makes the index of benchmark n-grams; one task."""

    def __init__(self, sources: list[Path], config: DecontaminationConfig, folder: Path) -> None:
        super().__init__("benchmarks")
        self.sources, self.config, self.folder = sources, config, str(folder)

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        """Writes the index."""
        write_index(self.sources, self.config, Path(self.folder))
        return iter(())


class JudgeEach(Step):
    """A filter by a judge that is made in the process of the task: text -> (reason, detail) or None."""

    def __init__(self, name: str, accounts: Accounts) -> None:
        super().__init__(name)
        self.accounts = accounts

    def make_judge(self, account: Account, rank: int) -> Callable[[Document], tuple[str, str] | None]:
        """The judge."""
        raise NotImplementedError

    def run(self, data: Documents, rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        """Yields the documents that pass."""
        account = self.accounts.new()
        judge_document = self.make_judge(account, rank)
        for document in data:
            problem = judge_document(document)
            if problem is None:
                yield document
            else:
                drop(account, document, *problem)
        self.accounts.write(self.name, account, rank)


class Decontaminate(JudgeEach):
    """Drops documents that hold text of a benchmark, and names its file and row."""

    def __init__(self, index: Path, accounts: Accounts) -> None:
        super().__init__("benchmarks", accounts)
        self.index = str(index)

    def make_judge(self, account: Account, rank: int) -> Callable[[Document], tuple[str, str] | None]:
        """Searches the index."""
        settings = self.accounts.config.decontamination
        assert settings is not None
        index = BenchmarkIndex(Path(self.index), settings.ngram_units, settings.min_matches)

        def found(document: Document) -> tuple[str, str] | None:
            match = index.match(document.text)
            return ("benchmark", match) if match else None

        return found


class ScoreLikelihood(Step):
    """Mean log-probability of every document of the shard, beside it; the last step of its task."""

    def __init__(self, model: Path, config: LanguageModelConfig, folder: Path) -> None:
        super().__init__("likelihood")
        self.model, self.config, self.folder = str(model), config, str(folder)

    def run(self, data: Documents, rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        """Writes [n] records of score and language."""
        model = _likelihood_model(self.model, self.config)
        languages: list[str] = []

        def texts() -> Iterator[str]:
            for document in data:
                languages.append(document.metadata["language"])
                yield document.text

        scores = list(model.mean_logprobs(texts()))
        records = np.zeros(len(scores), SCORE)
        records["score"], records["language"] = scores, languages
        save(Path(self.folder) / f"{rank:05d}.npy", records)
        return iter(())


_models: dict[tuple[str, str], LikelihoodModel] = {}


def _likelihood_model(folder: str, config: LanguageModelConfig) -> LikelihoodModel:
    """The model; a process that runs several tasks loads it once."""
    key = (folder, config.model_dump_json())
    if key not in _models:
        _models[key] = LikelihoodModel(Path(folder), config)
    return _models[key]


class FindBounds(Step):
    """From the likelihoods of a sample: which are kept. One task."""

    def __init__(self, scores: Path, config: LanguageModelConfig, path: Path, seed: int) -> None:
        super().__init__("bounds")
        self.scores, self.config, self.path, self.seed = str(scores), config, str(path), seed

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        """Writes language -> bounds."""
        paths = sorted(Path(self.scores).glob("*.npy"))
        total = sum(len(np.load(path, mmap_mode="r")) for path in paths)
        share = min(1.0, self.config.sample / max(total, 1))
        sampled = [np.zeros(0, SCORE)]
        for path in paths:
            records = np.load(path, mmap_mode="r")
            drawn = numpy_rng(self.seed, "likelihood", path.stem).random(len(records)) < share
            sampled.append(np.array(records[drawn]))
        found = np.concatenate(sampled)
        limits = bounds(found["score"], found["language"].tolist(), self.config)
        atomic_write_json(Path(self.path), {"sampled": len(found), "bounds": limits})
        return iter(())


class DropUnlikely(JudgeEach):
    """Drops documents outside the bounds."""

    def __init__(self, scores: Path, path: Path, accounts: Accounts) -> None:
        super().__init__("likelihood", accounts)
        self.scores, self.path = str(scores), str(path)

    def make_judge(self, account: Account, rank: int) -> Callable[[Document], tuple[str, str] | None]:
        """Takes the documents' scores in order."""
        of_language = json.loads(Path(self.path).read_text(encoding="utf-8"))["bounds"]
        scores = iter(np.load(Path(self.scores) / f"{rank:05d}.npy")["score"])

        def found(document: Document) -> tuple[str, str] | None:
            score, language = float(next(scores)), document.metadata["language"]
            if np.isnan(score):
                account.change({"likelihood_not_judged": 1})
                return None
            problem = likelihood_problem(score, *of_language.get(language, of_language["*"]))
            outcome = "kept" if problem is None else "dropped"
            account.histogram(f"likelihood/{language}/{outcome}", logprob_bin(score))
            return problem

        return found


class DropTone(JudgeEach):
    """Drops documents whose tone is offensive."""

    def __init__(self, model: Path, tone: ToneConfig, accounts: Accounts) -> None:
        super().__init__("tone", accounts)
        self.model, self.tone = str(model), tone

    def make_judge(self, account: Account, rank: int) -> Callable[[Document], tuple[str, str] | None]:
        """Asks the classifier."""
        model = ToneModel(Path(self.model))
        limit = self.tone.max_probability

        def found(document: Document) -> tuple[str, str] | None:
            probability = model.probability(document.text, document.metadata["language"])
            if probability is None:
                account.change({"tone_not_judged": 1})
            elif probability > limit:
                return "tone", f"offensive with {probability:.3f} above {limit}"
            return None

        return found


class CountKept(Step):
    """Counts what is kept, and keeps samples of it."""

    def __init__(self, accounts: Accounts) -> None:
        super().__init__("kept")
        self.accounts = accounts

    def run(self, data: Documents, rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        """Yields what comes."""
        account = self.accounts.new()
        for document in data:
            fields = document.metadata
            account.count("kept", document.text, fields["units"])
            account.change({f"kept/{fields['language']}": 1})
            account.sample("kept", "", document.id, document.text, fields["place"])
            yield document
        self.accounts.write(self.name, account, rank)


class WriteCorpus(WriteShard):
    """Writes documents as they are handed on: id, text, the fields they came with, and where they come from."""

    prefix = CORPUS_PREFIX

    def line(self, document: Document) -> dict[str, Any]:
        """`source` and `language` stay where the document has its own."""
        known = {"source": document.metadata["place"], "language": document.metadata["language"]}
        own: dict[str, Any] = document.metadata["fields"]
        return {"id": document.id, "text": document.text} | known | own
