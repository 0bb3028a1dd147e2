"""Private data in texts: found by form and, where there is one, by check digit; masked and counted by kind."""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Iterator, Sequence

from megatron_redone.curation.filter.config import PIIKind

Span = tuple[int, int]

_EMAIL = re.compile(
    r"(?<![A-Za-z0-9._+%-])[A-Za-z0-9][A-Za-z0-9._%+-]{0,63}@(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,62})\.){1,8}[A-Za-z]{2,24}(?![A-Za-z0-9@])"
)
_IDENTITY_CARD = re.compile(r"(?<![0-9A-Za-z])[1-9]\d{16}[0-9Xx](?![0-9A-Za-z])")
_BANK_CARD = re.compile(
    r"(?<![\d.,-])[2-6]\d{3}(?:(?:[ -]?\d{4}){3}|[ -]?\d{6}[ -]?\d{5}|\d{9,15})(?:[ -]?\d{1,3})?(?![\d-])"
)
# Visa, Mastercard, American Express, Diners Club, JCB, UnionPay and others that begin with 6, each in its lengths.
_ISSUED = re.compile(
    r"4(?:\d{12}|\d{15}|\d{18})|(?:5[1-5]\d\d|22[3-9]\d|222[1-9]|2[3-6]\d\d|27[01]\d|2720)\d{12}"
    r"|3[47]\d{13}|3(?:0[0-5]|[68]\d)\d{11}|35\d{14}|6\d{15,18}"
)
_MANY_DIGITS = re.compile(r"\d(?:[\s().·-]{0,3}\d){6}")
_IDENTITY_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
_FULLWIDTH_DIGITS = str.maketrans("０１２３４５６７８９＠．", "0123456789@.")


def masked(text: str, kinds: Sequence[PIIKind], phone_regions: Sequence[str]) -> tuple[str, dict[str, int]]:
    """The text with private data replaced by `<KIND>`, and how many of each kind there were.

    Identity cards come before bank cards and these before phone numbers: what passes a check digit is taken for it.
    Digits and `@` may be written in full width.
    """
    counts: dict[str, int] = {}
    finders: dict[PIIKind, Callable[[str], Iterator[Span]]] = {
        "email": _emails,
        "identity_card": _identity_cards,
        "bank_card": _bank_cards,
        "phone": lambda seen: _phones(seen, phone_regions),
    }
    for kind, find in finders.items():
        if kind not in kinds:
            continue
        parts, end = [], 0
        for start, stop in find(text.translate(_FULLWIDTH_DIGITS)):
            parts += [text[end:start], f"<{kind.upper()}>"]
            end = stop
            counts[kind] = counts.get(kind, 0) + 1
        text = "".join([*parts, text[end:]]) if parts else text
    return text, counts


def _emails(text: str) -> Iterator[Span]:
    if "@" in text:
        yield from (match.span() for match in _EMAIL.finditer(text))


def _identity_cards(text: str) -> Iterator[Span]:
    for match in _IDENTITY_CARD.finditer(text):
        if is_identity_card(match.group()):
            yield match.span()


def is_identity_card(number: str) -> bool:
    """Whether 18 characters are a Chinese identity number: a date of birth and the check digit of GB 11643-1999."""
    try:
        born = datetime.date(int(number[6:10]), int(number[10:12]), int(number[12:14]))
    except ValueError:
        return False
    total = sum(int(digit) * weight for digit, weight in zip(number, _IDENTITY_WEIGHTS, strict=False))
    return 1900 <= born.year <= 2100 and "10X98765432"[total % 11] == number[17].upper()


def _bank_cards(text: str) -> Iterator[Span]:
    for match in _BANK_CARD.finditer(text):
        digits = re.sub(r"\D", "", match.group())
        if _ISSUED.fullmatch(digits) and len(set(digits)) > 3 and passes_luhn(digits):
            yield match.span()


def passes_luhn(digits: str) -> bool:
    """Luhn's checksum of payment cards (ISO/IEC 7812-1)."""
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) * (1 + place % 2)
        total += value - 9 if value > 9 else value
    return total % 10 == 0


def _phones(text: str, regions: Sequence[str]) -> Iterator[Span]:
    """Valid numbers of the regions, and of every country where they are written with `+` (libphonenumber)."""
    if not _MANY_DIGITS.search(text):
        return
    import phonenumbers

    spans = [
        (match.start, match.end)
        for region in regions or (None,)
        for match in phonenumbers.PhoneNumberMatcher(text, region, leniency=phonenumbers.Leniency.VALID)
    ]
    end = 0
    for start, stop in sorted(spans, key=lambda span: (span[0], -span[1])):
        if start >= end:
            yield start, stop
            end = stop
