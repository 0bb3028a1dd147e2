from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st

from megatron_redone.common.errors import DataError
from megatron_redone.curation.config import HeldOutConfig
from megatron_redone.curation.held_out import HeldOut
from megatron_redone.tasks.base import Row

WORDS = [f"word{i}" for i in range(400)]
TEXT = " ".join(WORDS[:30])
CHINESE = "".join(chr(0x4E00 + i) for i in range(40))


def row(name: str, text: str, answer: str = "a") -> Row:
    return Row(name, "note_security", "en", {"content": text}, answer)


def held_out(folder: Path, *texts: str, config: HeldOutConfig | None = None) -> HeldOut:
    path = folder / "test.jsonl"
    path.write_text("".join(json.dumps(row(f"held{i}", text).to_json()) + "\n" for i, text in enumerate(texts)))
    return HeldOut([path], config or HeldOutConfig())


def test_the_same_id_is_kept_out_whatever_its_text(tmp_path: Path) -> None:
    found = held_out(tmp_path, TEXT)
    kept, counts = found.without([row("held0", "other"), row("free", "other")])
    assert [one.id for one in kept] == ["free"] and counts == {"id": 1, "ngrams": 0}


@pytest.mark.parametrize(
    ("text", "near"),
    [
        (TEXT, True),
        (TEXT.upper().replace(" ", " ,  "), True),  # case, punctuation, spaces
        ("before it " + TEXT + " and behind it", True),
        (" ".join(WORDS[:20]), False),  # 8 of 18 n-grams
        (" ".join(WORDS[30:60]), False),
        (CHINESE + "尾", True),
        ("", False),
    ],
)
def test_most_of_a_held_out_text_is_kept_out(tmp_path: Path, text: str, near: bool) -> None:
    found = held_out(tmp_path, TEXT, CHINESE)
    assert (found.reason(row("r", text)) == "ngrams") == near
    assert (found.reason(row("r", "", answer=text)) == "ngrams") == near  # wherever the text stands


def test_the_share_is_a_setting(tmp_path: Path) -> None:
    found = held_out(tmp_path, TEXT, config=HeldOutConfig(share=0.4))
    assert found.reason(row("r", " ".join(WORDS[:20]))) == "ngrams"


def test_what_many_held_out_rows_share_is_their_prompt(tmp_path: Path) -> None:
    prompt = " ".join(WORDS[:20])
    found = held_out(tmp_path, *(f"{prompt} {' '.join(WORDS[40 + 20 * i : 60 + 20 * i])}" for i in range(12)))
    assert found.reason(row("r", prompt)) is None
    assert found.reason(row("r", f"{prompt} {' '.join(WORDS[40:60])}")) == "ngrams"


def test_short_held_out_texts_count_as_a_whole_from_eight_words_on(tmp_path: Path) -> None:
    found = held_out(tmp_path, " ".join(WORDS[:8]), " ".join(WORDS[10:17]))
    assert found.reason(row("r", "x " + " ".join(WORDS[:8]))) == "ngrams"
    assert found.reason(row("r", " ".join(WORDS[10:17]))) is None


@settings(max_examples=40)
@given(st.lists(st.sampled_from(WORDS), min_size=26, max_size=40), st.lists(st.sampled_from(WORDS), max_size=20))
def test_a_planted_row_never_stays(
    tmp_path_factory: pytest.TempPathFactory, words: list[str], noise: list[str]
) -> None:
    found = held_out(tmp_path_factory.mktemp("held"), " ".join(words))
    kept, counts = found.without([row("r", " ".join([*noise, *words]))])
    assert kept == [] and counts["ngrams"] == 1


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "test.jsonl"
    path.write_bytes(b'{"id": "a"}\n\xff\xfe{')
    with pytest.raises(DataError, match=r"test\.jsonl:2"):
        HeldOut([path], HeldOutConfig())
    with pytest.raises(DataError, match="no benchmark files there"):
        HeldOut([tmp_path / "absent"], HeldOutConfig())
