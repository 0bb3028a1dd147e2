"""The classifier of tone: hashed character n-grams and a linear model for each language. Weights are safetensors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from megatron_redone.common.errors import DataError
from megatron_redone.common.files import atomic_write_json

DESCRIPTION = "tone.json"
WEIGHTS = "tone.safetensors"


def vectorizer(num_features: int, max_ngram: int) -> Any:
    """Scikit-learn's hashing of character n-grams: no vocabulary, the same features everywhere."""
    from sklearn.feature_extraction.text import HashingVectorizer

    return HashingVectorizer(
        analyzer="char_wb", ngram_range=(1, max_ngram), n_features=num_features, lowercase=True, norm="l2"
    )


class ToneModel:
    """A trained classifier, read from its folder.

    Raises:
        DataError: the folder does not hold one, or its files do not fit together.
    """

    def __init__(self, folder: Path) -> None:
        from safetensors.numpy import load_file

        path = folder / DESCRIPTION
        if not path.is_file():
            raise DataError(f"{folder}: no {DESCRIPTION}; give a folder that `redone curate tone-model` made")
        description = json.loads(path.read_text(encoding="utf-8"))
        tensors = load_file(folder / WEIGHTS)
        self._weights: dict[str, tuple[npt.NDArray[np.float32], float]] = {}
        for language, of_language in description["languages"].items():
            weights = tensors.get(f"{language}.weights")
            if weights is None or weights.shape != (description["num_features"],):
                raise DataError(
                    f"{folder / WEIGHTS}: the weights of {language!r} do not fit {DESCRIPTION}; train again"
                )
            self._weights[language] = (weights, float(of_language["bias"]))
        self._vectorizer = vectorizer(description["num_features"], description["max_ngram"])

    @property
    def languages(self) -> list[str]:
        """Languages that can be judged."""
        return sorted(self._weights)

    def probability(self, text: str, language: str) -> float | None:
        """Probability that a text is offensive; None in a language that the classifier does not know."""
        if language not in self._weights:
            return None
        weights, bias = self._weights[language]
        row = self._vectorizer.transform([text])
        logit = float(row.dot(weights)[0]) + bias
        return float(1.0 / (1.0 + np.exp(-logit)))


def save_tone_model(
    folder: Path,
    weights: dict[str, npt.NDArray[np.float32]],
    languages: dict[str, dict[str, Any]],
    num_features: int,
    max_ngram: int,
) -> None:
    """Writes the classifier's two files.

    Args:
        weights: language -> [num_features].
        languages: language -> `bias`, and what was measured (`auc`, numbers of rows).
    """
    from safetensors.numpy import save_file
    from sklearn import __version__

    folder.mkdir(parents=True, exist_ok=True)
    save_file({f"{language}.weights": tensor for language, tensor in weights.items()}, folder / WEIGHTS)
    description = {
        "num_features": num_features,
        "max_ngram": max_ngram,
        "scikit_learn": __version__,
        "languages": languages,
    }
    atomic_write_json(folder / DESCRIPTION, description)
