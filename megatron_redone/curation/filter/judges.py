"""The steps that ask something about each document: benchmarks, the language model, the classifier of tone."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from datatrove.data import Document

from megatron_redone.common.files import atomic_write_json
from megatron_redone.common.seeding import numpy_rng
from megatron_redone.curation.filter.account import Account, logprob_bin
from megatron_redone.curation.filter.benchmarks import BenchmarkIndex, write_index
from megatron_redone.curation.filter.config import DecontaminationConfig, LanguageModelConfig, ToneConfig
from megatron_redone.curation.filter.identity import save
from megatron_redone.curation.filter.likelihood import LikelihoodModel, bounds, likelihood_problem
from megatron_redone.curation.filter.steps import Accounts, Documents, Step, drop
from megatron_redone.curation.filter.tone import ToneModel

SCORE = np.dtype([("score", "<f4"), ("language", "U3")])
"""What the language model says of a document."""


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

    @abstractmethod
    def make_judge(self, account: Account, rank: int) -> Callable[[Document], tuple[str, str] | None]:
        """The judge."""

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
