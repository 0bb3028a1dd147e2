"""General corpora as documents of about equal length: long texts are cut, short ones put together.

RedOne (section 3.1.1) takes general data as single texts, segmented and concatenated to a token-length threshold; the
threshold is not published. Ours cuts at borders of sentences only, and joins texts of one language of one file.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from megatron_redone.common.errors import DataError
from megatron_redone.common.jsonl import write_jsonl
from megatron_redone.curation.interactions.config import GeneralTextConfig
from megatron_redone.curation.interactions.log import Name
from megatron_redone.curation.interactions.reading import Refusals, input_files, read_records
from megatron_redone.curation.interactions.store import STORE, StepStore
from megatron_redone.curation.segments import CountTokens, script_language, segments

CORPUS = "corpus"
FORM = "general"
_BETWEEN = "\n\n"


class GeneralText(BaseModel):
    """One line of a general corpus; keys beside these are left alone."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    id: Name
    text: Name
    language: str | None = Field(None, min_length=1)


@dataclass
class _Open:
    """A document that may take more texts."""

    texts: list[str] = field(default_factory=list)
    made_of: list[str] = field(default_factory=list)
    num_tokens: int = 0
    source: str = ""


def general_documents(
    records: Iterable[tuple[str, GeneralText]], config: GeneralTextConfig, count_tokens: CountTokens
) -> Iterator[dict[str, Any]]:
    """Documents of at most `max_tokens` tokens (the sum over their sentences).

    Args:
        records: (`file:line`, text), in order.

    Returns:
        id, text, form "general", language, source (`file:line` of the first text), made_of (ids of the texts).
    """
    open_documents: dict[str, _Open] = {}
    for place, record in records:
        language = record.language or script_language(record.text)
        for segment in segments(record.text, config.max_tokens, count_tokens):
            num_tokens = count_tokens(segment)
            held = open_documents.setdefault(language, _Open())
            if held.texts and (not config.join or held.num_tokens + num_tokens > config.max_tokens):
                yield _document(held, language)
                held = open_documents[language] = _Open()
            held.texts.append(segment)
            held.num_tokens += num_tokens + count_tokens(_BETWEEN)
            held.made_of.append(record.id)
            held.source = held.source or place
    for language, held in open_documents.items():
        if held.texts:
            yield _document(held, language)


def _document(held: _Open, language: str) -> dict[str, Any]:
    text = _BETWEEN.join(held.texts)
    made_of = list(dict.fromkeys(held.made_of))
    content = "".join(f"{len(part)}:{part}," for part in (*made_of, text))
    digest = hashlib.blake2b(content.encode(), digest_size=8).hexdigest()
    return {
        "id": f"{FORM}-{digest}",
        "text": text,
        "form": FORM,
        "language": language,
        "source": held.source,
        "made_of": made_of,
    }


def write_general_text(
    config: GeneralTextConfig,
    texts: Path,
    out: Path,
    max_refused_share: float,
    count_tokens: CountTokens,
    check_stop: Callable[[], None] = lambda: None,
) -> tuple[dict[str, int], Refusals]:
    """Writes `corpus-00000.jsonl`, ..., one for each file of `texts`; returns counts and refused lines.

    A killed call goes on with the first file that is not done. Equal inputs and settings give equal bytes.

    Raises:
        DataError: a damaged file, too many bad lines (bad schema, an id that was met before), or no document at all.
    """
    counts: Counter[str] = Counter()
    refusals = Refusals(max_refused_share)
    with StepStore(out / STORE) as store:
        for number, path in enumerate(input_files(texts, CORPUS)):
            target = out / f"corpus-{number:05d}.jsonl"
            cut = partial(_cut_file, path, target, store, config, count_tokens, refusals)
            store.once(f"texts {path}", counts, refusals, cut)
            check_stop()
    refusals.check()
    for leftover in [*out.glob(f"{STORE}*"), *(path for path in out.glob("corpus-*") if not path.stat().st_size)]:
        leftover.unlink()
    if not counts["documents"]:
        raise DataError(
            f"{texts}: no document came of {counts['texts']} texts, {counts['documents_too_short']} were shorter than "
            f"min_tokens={config.min_tokens}; lower it"
        )
    return {**dict(sorted(counts.items())), "lines_refused": refusals.num_refused}, refusals


def _cut_file(
    path: Path,
    target: Path,
    store: StepStore,
    config: GeneralTextConfig,
    count_tokens: CountTokens,
    refusals: Refusals,
) -> Counter[str]:
    counts: Counter[str] = Counter()

    def records() -> Iterator[tuple[str, GeneralText]]:
        for line, record in read_records(path, GeneralText, refusals):
            if not store.add_id(record.id):
                refusals.refuse(f"{path}:{line}: the id {record.id!r} was met before; give every text its own")
                continue
            counts["texts"] += 1
            yield f"{path.name}:{line}", record

    def kept() -> Iterator[dict[str, Any]]:
        for document in general_documents(records(), config, count_tokens):
            if config.min_tokens > 1 and count_tokens(document["text"]) < config.min_tokens:
                counts["documents_too_short"] += 1
                continue
            counts["documents"] += 1
            counts[f"documents/{document['language']}"] += 1
            yield document

    write_jsonl(target, kept())
    return counts
