"""Documents with a known fault, such as a raw crawl has: what `redone curate filter` is for.

Each says in `fault` which fault it has, so that what the filter finds can be counted. They stand between the clean
documents; a copy stands after what it was made of, because a filter keeps the first.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from random import Random
from typing import Any

from megatron_redone.common.errors import InputError
from megatron_redone.common.seeding import rng
from megatron_redone.curation.synthesize.config import FaultShares
from megatron_redone.curation.synthesize.corpus import SOURCE, new_text
from megatron_redone.curation.synthesize.texts import ENGLISH, LANGUAGES, normalised
from megatron_redone.data.ngrams import units
from megatron_redone.tasks.row import Row

FORM = "fault"
NEAR_COPY_UNITS = 40
"""Units that a document needs for a near copy: with fewer the added mark weighs too much for a near duplicate."""
LEAK_UNITS = 8
"""Units of the shortest held-out text that is leaked: shorter ones are no evidence of a leak."""
LEAKED_FIELDS = ("content", "query", "note", "message", "text")
_REPEATS = 8
_DAMAGED_CHARACTERS = 3


def with_faults(
    seed: int, shares: FaultShares, clean: Sequence[dict[str, Any]], test_rows: Sequence[Row]
) -> list[dict[str, Any]]:
    """The documents with faulty ones between them: so many of each kind as the shares of `clean` say.

    Args:
        clean: the corpus, in its order.
        test_rows: rows whose texts the kind `held_out` quotes.

    Raises:
        InputError: nothing to make a near copy of, or no held-out text that could be leaked.
    """
    places = {document["id"]: place for place, document in enumerate(clean)}
    ordered = [(float(place), document) for place, document in enumerate(clean)]
    seen = {normalised(document["text"]) for document in clean}
    for kind, share in shares:
        sources = _sources(kind, clean, test_rows) if round(share * len(clean)) else []
        for index in range(round(share * len(clean))):
            random = rng(seed, "fault", kind, index)
            document = _faulty(kind, index, random, sources, seen)
            after = max((places[source] for source in document.get("made_of", ())), default=-1)
            ordered.append((random.uniform(after, len(clean)), document))
    return [document for _, document in sorted(ordered, key=lambda entry: (entry[0], entry[1]["id"]))]


def _sources(kind: str, clean: Sequence[dict[str, Any]], test_rows: Sequence[Row]) -> list[Mapping[str, Any]]:
    """What documents of a kind are made of: documents of the corpus, or held-out texts; none for the rest."""
    found: list[Mapping[str, Any]]
    if kind == "exact_copy":
        found = [*clean]
    elif kind == "near_copy":
        found = [document for document in clean if len(units(document["text"])) >= NEAR_COPY_UNITS]
    elif kind == "held_out":
        found = [
            {"text": row.fields[name], "language": row.language}
            for row in test_rows
            for name in LEAKED_FIELDS
            if len(units(row.fields.get(name, ""))) >= LEAK_UNITS
        ]
    else:
        return []
    if not found:
        needed = f"a test row with a text of {LEAK_UNITS} units" if kind == "held_out" else "a longer document"
        raise InputError(f"faults.{kind}: there is not {needed} to make one of; set it to 0, or ask for more data")
    return found


def _faulty(
    kind: str, index: int, random: Random, sources: Sequence[Mapping[str, Any]], seen: set[str]
) -> dict[str, Any]:
    made_of: dict[str, list[str]] = {}
    if sources:
        source = random.choice(sources)
        text, language = source["text"], source["language"]
        if "id" in source:
            made_of = {"made_of": [source["id"]]}
    else:
        language = LANGUAGES[index % len(LANGUAGES)]
        text = new_text("note", language, random, seen)
    text = _spoilt(kind, text, language == ENGLISH, random)
    digest = hashlib.blake2b("\x1f".join((kind, str(index), text)).encode(), digest_size=8).hexdigest()
    head = {"id": f"{kind}-{digest}", "text": text, "form": FORM, "fault": kind}
    return {**head, "language": language, "source": SOURCE, **made_of}


def _spoilt(kind: str, text: str, english: bool, random: Random) -> str:
    """A text with the fault of its kind."""
    if kind == "near_copy":
        return f"{text} shared once more." if english else f"{text}再转一次。"
    if kind == "markup":
        return f"<p>{text}</p>"
    if kind == "page":
        menu = "".join(f'<li class="menu"><a href="/p/{random.randrange(1000)}"></a></li>' for _ in range(6))
        return f'<div class="page">{menu * (1 + len(text) // 100)}<p>{text}</p></div>'
    if kind == "repetition":
        return (" " if english else "").join([text] * _REPEATS)
    if kind == "private":
        phone, mail = f"138{random.randrange(10**7, 10**8)}", f"user{random.randrange(1000)}@example.com"
        return f"{text} call {phone}, write to {mail}." if english else f"{text}电话{phone}，邮箱 {mail}。"
    if kind == "encoding":
        if not english:
            return text.encode().decode("latin-1")
        marks = list(text)
        for place in random.sample(range(len(marks)), min(_DAMAGED_CHARACTERS, len(marks))):
            marks[place] = "\ufffd"
        return "".join(marks)
    if kind == "held_out":
        return f"seen elsewhere: {text}" if english else f"转自别处：{text}"
    return text
