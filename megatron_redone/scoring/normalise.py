"""How texts are compared: two strengths of normalisation, each stated once.

`tidy` is for extracted text: Unicode NFC, runs of white space collapsed to one space, ends trimmed. Case and
punctuation stay, because a span must be quoted as it stands.

`loose` is for labels and short answers: Unicode NFKC (full-width letters and digits become plain ones), case
folded, white space collapsed, and quotes, stops and commas at either end dropped. Inner punctuation stays
("C++" and "x-y" are not damaged), and articles stay.
"""

from __future__ import annotations

import unicodedata

_DROPPED_AT_THE_ENDS = " \t\r\n\0\"'`*.,;:!?。，、；：！？“”‘’「」『』《》"


def tidy(text: str) -> str:
    """NFC, white space collapsed and trimmed; idempotent."""
    return " ".join(unicodedata.normalize("NFC", text).split())


def loose(text: str) -> str:
    """NFKC, case folded, white space collapsed, quotes and stops dropped at both ends; idempotent."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    folded = unicodedata.normalize("NFKC", folded).casefold()  # folding can give characters that fold once more
    return " ".join(folded.split()).strip(_DROPPED_AT_THE_ENDS)
