from __future__ import annotations

import json
from pathlib import Path

import pytest

from megatron_redone.common.errors import DataError
from megatron_redone.common.seeding import rng
from megatron_redone.curation.filter.config import ToneModelConfig
from megatron_redone.curation.filter.tone import DESCRIPTION, ToneModel
from megatron_redone.curation.filter.tone_training import (
    LabelledText,
    cold_rows,
    davidson_rows,
    jsonl_rows,
    train_tone_model,
)
from tests.unit.curation.filter.texts import chinese, english

CONFIG = ToneModelConfig(num_features=2**14)


def labelled(count: int) -> list[LabelledText]:
    """Offensive texts hold one of a few made-up insults."""
    draw = rng("tone")
    rows = []
    for index in range(count):
        rude = index % 2 == 0
        insults = {"en": ("grumblefink", "snorkwit"), "zh": ("臭蛤蛤", "笨咕咕")}
        for language, write in (("en", english), ("zh", chinese)):
            text = write(draw, 12)
            rows.append(
                LabelledText(f"{text} {draw.choice(insults[language])}" if rude else text, rude, language, None)
            )
    return rows


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tone")
    counts = train_tone_model(labelled(120), CONFIG, path, 0)
    assert counts["en/auc"] > 0.95
    assert counts["zh/auc"] > 0.95
    return path


def test_planted_insults_are_found_and_plain_texts_are_not(folder: Path) -> None:
    model = ToneModel(folder)
    assert model.languages == ["en", "zh"]
    draw = rng("new")
    for language, insult, write in (("en", " you snorkwit", english), ("zh", "你这个笨咕咕", chinese)):
        text = write(draw, 12)
        plain, rude = model.probability(text, language), model.probability(text + insult, language)
        assert plain is not None and rude is not None
        assert plain < 0.5 < rude
    assert model.probability("texte", "fr") is None


def test_weights_are_no_pickle_and_damage_is_told(folder: Path, tmp_path: Path) -> None:
    assert sorted(path.name for path in folder.iterdir()) == ["tone.json", "tone.safetensors"]
    with pytest.raises(DataError, match=r"no tone.json"):
        ToneModel(tmp_path)
    description = json.loads((folder / DESCRIPTION).read_text()) | {"num_features": 5}
    (tmp_path / DESCRIPTION).write_text(json.dumps(description))
    (tmp_path / "tone.safetensors").write_bytes((folder / "tone.safetensors").read_bytes())
    with pytest.raises(DataError, match=r"do not fit tone.json"):
        ToneModel(tmp_path)


def test_training_is_the_same_again_and_held_out_texts_are_not_learnt(tmp_path: Path) -> None:
    rows = labelled(40)
    copies = [LabelledText(rows[0].text, True, "en", True), LabelledText(rows[0].text, True, "en", False)]
    counts = [train_tone_model([*rows, *copies], CONFIG, tmp_path / name, 0) for name in ("one", "two")]
    assert counts[0] == counts[1]
    one, two = ((tmp_path / name / "tone.safetensors").read_bytes() for name in ("one", "two"))
    assert one == two
    texts = {row.text for row in rows if row.language == "en"}
    assert counts[0]["en/train_rows"] + counts[0]["en/held_out_rows"] <= len(texts) + 1


def test_one_class_alone_cannot_be_learnt(tmp_path: Path) -> None:
    rows = [row for row in labelled(20) if row.offensive]
    with pytest.raises(DataError, match="not of both classes"):
        train_tone_model(rows, CONFIG, tmp_path, 0)


def test_public_formats_are_read_and_bad_labels_refused_with_their_line(tmp_path: Path) -> None:
    (tmp_path / "labeled_data.csv").write_text(',count,class,tweet\n0,3,0,"two\nlines"\n1,3,2,fine\n2,3,7,odd\n')
    hate, fine, odd = davidson_rows(tmp_path)
    assert hate == LabelledText("two\nlines", True, "en", None)
    assert isinstance(fine, LabelledText) and not fine.offensive
    assert str(odd).endswith("labeled_data.csv:5: class='7' is none of 0, 1, 2")
    for name in ("train", "dev", "test"):
        (tmp_path / f"{name}.csv").write_text("\ufeff,label,TEXT\n0,1,坏话\n1,x,好话\n")
    found = list(cold_rows(tmp_path))
    assert [row.held_out for row in found if isinstance(row, LabelledText)] == [False, False, True]
    assert sum(isinstance(row, str) for row in found) == 3
    (tmp_path / "own.jsonl").write_text('{"text": "a", "offensive": true, "language": "en"}\n{"text": "b"}\nno\n')
    own = list(jsonl_rows(tmp_path / "own.jsonl"))
    assert [isinstance(row, LabelledText) for row in own] == [True, False, False]
    (tmp_path / "labeled_data.csv").write_text("a,b\n")
    with pytest.raises(DataError, match="no column class, tweet"):
        list(davidson_rows(tmp_path))
    with pytest.raises(DataError, match="no such file"):
        list(davidson_rows(tmp_path / "nowhere"))
