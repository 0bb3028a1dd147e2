"""Documents that begin with the same prompt, laid into a row so that the prompt stands there once. Imports no torch.

Answers to one prompt (a group of DAPO, a pair of DPO) repeat it, and causal attention makes its hidden states the same
in all of them. In a row that shares prompts a segment holds the prompt without its last token; the segments of the
answers go on from it, each with the prompt's last token in front, since that one predicts an answer's first token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from megatron_redone.data.document import Document

MIN_SHARED_TOKENS = 16
"""A shorter beginning is not worth attention calls of its own."""
NO_PARENT = -1


@dataclass(frozen=True)
class RowLayout:
    """Documents as segments of a row.

    Attributes:
        segments: in the order they stand in the row.
        parents: for each segment the one whose tokens it goes on from, `NO_PARENT` where it starts anew.
        segment_of: for each document the segment of its answer, or of all of it; increasing.
    """

    segments: list[Document]
    parents: list[int]
    segment_of: list[int]

    @property
    def first_positions(self) -> list[int]:
        """The position in its document at which each segment starts."""
        return [0 if parent == NO_PARENT else len(self.segments[parent]) for parent in self.parents]


def shareable_tokens(document: Document) -> int:
    """Leading tokens that another document may share: all before the last one in front of the first learnt token."""
    learnt = np.flatnonzero(np.asarray(document.loss_mask)[1:])
    return int(learnt[0]) if learnt.size else 0


def prompt_groups(documents: Sequence[Document]) -> list[list[int]]:
    """Indices of documents that share their prompt, in the order of each group's first; most may stand alone."""
    groups: dict[object, list[int]] = {}
    for index, document in enumerate(documents):
        shared = shareable_tokens(document)
        prompt = np.asarray(document.token_ids[:shared], dtype=np.int64).tobytes()
        groups.setdefault(index if shared < MIN_SHARED_TOKENS else prompt, []).append(index)
    return list(groups.values())


def tokens_with_shared_prompt(documents: Sequence[Document]) -> int:
    """Tokens of a row that the documents of one of the `prompt_groups` make."""
    shared = shareable_tokens(documents[0]) if len(documents) > 1 else 0
    return sum(map(len, documents)) - (len(documents) - 1) * shared


def row_layout(documents: Sequence[Document], share_prompts: bool) -> RowLayout:
    """Segments of the documents, in their order; a shared prompt stands before the first that needs it."""
    groups = prompt_groups(documents) if share_prompts else [[index] for index in range(len(documents))]
    shares = {index: members for members in groups if len(members) > 1 for index in members}
    layout = RowLayout([], [], [])
    prompts: dict[int, int] = {}  # first document of a group -> segment of its prompt
    for index, document in enumerate(documents):
        parent = NO_PARENT
        if index in shares:
            first, shared = shares[index][0], shareable_tokens(document)
            if index == first:
                prompts[first] = len(layout.segments)
                layout.segments.append(_part(document, 0, shared))
                layout.parents.append(NO_PARENT)
            parent, document = prompts[first], _part(document, shared, len(document))
        layout.segment_of.append(len(layout.segments))
        layout.segments.append(document)
        layout.parents.append(parent)
    return layout


def _part(document: Document, start: int, end: int) -> Document:
    signals = {name: values[start:end] for name, values in document.signals.items()}
    return Document(document.token_ids[start:end], document.loss_mask[start:end], document.sample_id, signals)
