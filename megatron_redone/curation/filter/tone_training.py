"""Labelled rows of public sets, and the training of the tone classifier on them."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from megatron_redone.common.errors import DataError
from megatron_redone.common.jsonl import read_jsonl_lenient
from megatron_redone.common.seeding import derive_seed
from megatron_redone.curation.filter.config import ToneModelConfig
from megatron_redone.curation.filter.tone import save_tone_model, vectorizer

NEITHER = "2"
"""Davidson's class of tweets that are neither hate speech nor offensive."""


@dataclass(frozen=True)
class LabelledText:
    """A text and whether people found it offensive."""

    text: str
    offensive: bool
    language: str
    held_out: bool | None
    """Whether the data set says that it is for testing; None where it has no such split."""


Found = Iterator[LabelledText | str]
"""Texts, and a message for each row that is refused."""


def davidson_rows(folder: Path) -> Found:
    """Davidson et al. 2017, `labeled_data.csv`: English tweets; hate speech and offensive language count as one."""
    path = folder / "labeled_data.csv"
    for number, row in _csv_rows(path, ("class", "tweet")):
        if row["class"] not in ("0", "1", "2"):
            yield f"{path}:{number}: class={row['class']!r} is none of 0, 1, 2"
            continue
        yield LabelledText(row["tweet"], row["class"] != NEITHER, "en", None)


def cold_rows(folder: Path) -> Found:
    """COLD (Deng et al. 2022), `train.csv`, `dev.csv`, `test.csv`: Chinese posts; the test file is held out."""
    for name in ("train.csv", "dev.csv", "test.csv"):
        path = folder / name
        for number, row in _csv_rows(path, ("label", "TEXT")):
            if row["label"] not in ("0", "1"):
                yield f"{path}:{number}: label={row['label']!r} is neither 0 nor 1"
                continue
            yield LabelledText(row["TEXT"], row["label"] == "1", "zh", name == "test.csv")


def jsonl_rows(path: Path) -> Found:
    """Own labels: `{"text", "offensive": true, "language": "en"}` in each line."""
    for number, value, problem in read_jsonl_lenient(path):
        if value is None:
            yield str(problem)
        elif not (
            isinstance(value.get("text"), str)
            and isinstance(value.get("offensive"), bool)
            and isinstance(value.get("language"), str)
        ):
            yield f"{path}:{number}: needs text (string), offensive (true or false), language (code)"
        else:
            yield LabelledText(value["text"], value["offensive"], value["language"], None)


def _csv_rows(path: Path, columns: tuple[str, ...]) -> Iterator[tuple[int, dict[str, str]]]:
    if not path.is_file():
        raise DataError(f"{path}: no such file; give the data set's folder")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            missing = [column for column in columns if column not in (reader.fieldnames or ())]
            if missing:
                raise DataError(f"{path}:1: no column {', '.join(missing)}; this is not the file of the data set")
            for row in reader:
                yield reader.line_num, {column: row[column] or "" for column in columns}
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 at byte {error.start}; save the file as UTF-8") from error


def train_tone_model(rows: list[LabelledText], config: ToneModelConfig, folder: Path, seed: int) -> dict[str, float]:
    """Trains one linear classifier a language and measures it on held-out rows.

    Returns the area under the ROC curve and numbers of rows, by language.

    Raises:
        DataError: a language whose training or held-out rows are all of one class.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score

    features = vectorizer(config.num_features, config.max_ngram)
    weights, languages, counts = {}, {}, {}
    for language in sorted({row.language for row in rows}):
        train, held_out = _split([row for row in rows if row.language == language], config.held_out_share, seed)
        for name, part in (("training", train), ("held-out", held_out)):
            if len({row.offensive for row in part}) < 2:
                raise DataError(f"{language}: the {len(part)} {name} rows are not of both classes; give more rows")
        model = LogisticRegression(C=config.inverse_regularisation, max_iter=1000, class_weight="balanced")
        model.fit(features.transform([row.text for row in train]), [row.offensive for row in train])
        scores = model.decision_function(features.transform([row.text for row in held_out]))
        auc = float(roc_auc_score([row.offensive for row in held_out], scores))
        weights[language] = model.coef_[0].astype(np.float32)
        measured: dict[str, Any] = {"train_rows": len(train), "held_out_rows": len(held_out), "auc": auc}
        languages[language] = {"bias": float(model.intercept_[0]), **measured}
        counts.update({f"{language}/{name}": value for name, value in measured.items()})
    save_tone_model(folder, weights, languages, config.num_features, config.max_ngram)
    return counts


def _split(rows: list[LabelledText], held_out_share: float, seed: int) -> tuple[list[LabelledText], list[LabelledText]]:
    """(training, held out): by the data set, else by the hash of the text, so that copies lie on one side.

    A text that is held out is in no case trained on as well.
    """
    train: list[LabelledText] = []
    held_out: list[LabelledText] = []
    for row in rows:
        (held_out if is_held_out(row, held_out_share, seed) else train).append(row)
    tested = {row.text for row in held_out}
    return [row for row in train if row.text not in tested], held_out


def is_held_out(row: LabelledText, held_out_share: float, seed: int) -> bool:
    """Whether a row is for testing: by its data set, else by the hash of seed and text."""
    if row.held_out is not None:
        return row.held_out
    return derive_seed(seed, "tone", row.text) / 2**63 < held_out_share
