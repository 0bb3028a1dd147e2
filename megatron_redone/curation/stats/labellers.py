"""Two-level category labels: by keywords, or by a language model.

RedOne labels its SFT data by a model fine-tuned on the labels of Infinity-Instruct. Ours takes any engine, asked with
the list of our own taxonomy; without one, keywords decide. Both are deterministic.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from megatron_redone.curation.stats.taxonomy import KEYWORDS, UNLABELLED, Category
from megatron_redone.data.conversation import Message
from megatron_redone.tasks.base import answer_after_thought

MAX_CHARACTERS = 2000
"""What a label is about shows in the beginning; the rest is not read."""
_WORD = re.compile(r"[a-z0-9]+\+*")
_HAN_RUN = re.compile("[\u4e00-\u9fff]+")


class CategoryLabeller(Protocol):
    """Names the category of texts."""

    name: str

    def label(self, texts: Sequence[str]) -> list[Category | None]:
        """One category a text, None where the labeller gives none that is in the taxonomy."""
        ...


class KeywordLabeller:
    """The category with the most different keywords in the text; `other / unlabelled` without any."""

    name = "keywords"

    def __init__(self) -> None:
        self._order = list(KEYWORDS)
        self._categories: dict[str, list[int]] = {}
        for place, words in enumerate(KEYWORDS.values()):
            for word in words:
                self._categories.setdefault(word, []).append(place)
        self._max_words = max(word.count(" ") + 1 for word in self._categories)
        self._max_characters = max(len(word) for word in self._categories if not word.isascii())

    def label(self, texts: Sequence[str]) -> list[Category | None]:
        """One category a text, never None."""
        return [self._label(text) for text in texts]

    def _label(self, text: str) -> Category:
        found = set(self._known(text[:MAX_CHARACTERS].lower()))
        votes = Counter(place for word in found for place in self._categories[word])
        if not votes:
            return UNLABELLED
        return self._order[min(votes, key=lambda place: (-votes[place], place))]

    def _known(self, text: str) -> Iterator[str]:
        """The keywords in a text: runs of words, the last one without its plural s, and pieces of Chinese text."""
        words = _WORD.findall(text)
        for start in range(len(words)):
            for end in range(start + 1, min(start + self._max_words, len(words)) + 1):
                phrase = " ".join(words[start:end])
                if phrase in self._categories:
                    yield phrase
                elif phrase.removesuffix("s") in self._categories:
                    yield phrase.removesuffix("s")
        for run in _HAN_RUN.findall(text):
            for start in range(len(run)):
                for end in range(start + 1, min(start + self._max_characters, len(run)) + 1):
                    if run[start:end] in self._categories:
                        yield run[start:end]


class ModelLabeller:
    """The category that a model names.

    Args:
        complete: answers conversations; each ends with a user's turn. A stage gives an engine's.
        name: of the model, for the page.
    """

    def __init__(self, complete: Callable[[Sequence[Sequence[Message]]], list[str]], name: str) -> None:
        self.name, self._complete = name, complete

    def label(self, texts: Sequence[str]) -> list[Category | None]:
        """One category a text, None where the model names none."""
        return [read_label(answer) for answer in self._complete([label_request(text) for text in texts])]


def label_request(text: str) -> list[Message]:
    """The question that a labelling model answers."""
    categories = "\n".join(category.text for category in [*KEYWORDS, UNLABELLED])
    content = (
        "Which category fits the text best? Answer with one line of this list and nothing else.\n\n"
        f"{categories}\n\nText:\n{text[:MAX_CHARACTERS]}"
    )
    return [{"role": "user", "content": content}]


def read_label(answer: str) -> Category | None:
    """The category in a model's answer: the first line that names one, without regard to case and spaces."""
    rest = answer_after_thought(answer)
    names = {_loose(category.text): category for category in [*KEYWORDS, UNLABELLED]}
    lines = (rest or "").splitlines()
    return next((names[_loose(line)] for line in lines if _loose(line) in names), None)


def _loose(text: str) -> str:
    return re.sub(r"[^a-z/]", "", text.lower())
