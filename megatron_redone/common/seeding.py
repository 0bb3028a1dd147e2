"""Randomness as a function of names and numbers, never of state.

Every random choice is drawn from a generator seeded by what it is for, for example
`rng(seed, "shuffle", epoch)`. There is no random state to save, and a resume in another layout draws the same.
"""

from __future__ import annotations

import hashlib
import random

import numpy as np


def derive_seed(*parts: object) -> int:
    """A 63-bit seed from the parts' text; equal parts give equal seeds in every process and version."""
    text = "\x1f".join(str(part) for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def rng(*parts: object) -> random.Random:
    """A standard-library generator seeded by `derive_seed(*parts)`."""
    return random.Random(derive_seed(*parts))


def numpy_rng(*parts: object) -> np.random.Generator:
    """A numpy generator (Philox) seeded by `derive_seed(*parts)`."""
    return np.random.Generator(np.random.Philox(derive_seed(*parts)))
