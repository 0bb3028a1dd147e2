"""The embedder of QueryGen: a sentence-transformers model by name or path."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from megatron_redone.common.errors import InputError
from megatron_redone.evaluation.sns_bench.query_generation import Embed

BATCH_SIZE = 32
SECONDS_FOR_THE_HUB = 10


def load_embedder(name: str) -> Embed:
    """Vectors by the model of that name or path; one that was downloaded before needs no network.

    Raises:
        InputError: sentence-transformers is missing, or the model cannot be had.
    """
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        raise InputError(
            f"--embedder {name} needs sentence-transformers; pip install 'megatron-redone[evaluation]', or give "
            "--embedder none"
        ) from error
    for quiet in ("sentence_transformers", "transformers", "huggingface_hub"):
        logging.getLogger(quiet).setLevel(logging.ERROR)
    try:
        model = SentenceTransformer(name, device="cpu", local_files_only=_is_here(name))
    except Exception as error:  # whatever the hub, the network or a damaged folder may raise
        raise InputError(
            f"--embedder {name}: cannot be loaded ({' '.join(str(error).split())[:150]}); give the folder of a "
            "sentence-transformers model, or --embedder none"
        ) from error

    def embed(texts: Sequence[str]) -> npt.NDArray[np.float64]:
        vectors: Any = model.encode(list(texts), batch_size=BATCH_SIZE, show_progress_bar=False)
        return np.asarray(vectors, dtype=np.float64)

    return embed


def _is_here(name: str) -> bool:
    """Whether the model is a folder or in the hub's cache; if not, the hub must answer (it raises where it does not: a
    download would try again for more than a minute)."""
    from huggingface_hub import HfApi, try_to_load_from_cache

    if Path(name).exists() or isinstance(try_to_load_from_cache(name, "config.json"), str):
        return True
    HfApi().model_info(name, timeout=SECONDS_FOR_THE_HUB)
    return False
