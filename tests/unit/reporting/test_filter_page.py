from __future__ import annotations

import json
from pathlib import Path

import pytest

from megatron_redone.common.errors import DataError
from megatron_redone.reporting.filter_page import write_filter_page

SIZE = {"documents": 3, "characters": 90, "units": 20}
RESULT = {
    "read": SIZE,
    "kept": {"documents": 1, "characters": 30, "units": 8},
    "dropped": [{"step": "rules", "reason": "html", "documents": 2, "characters": 60, "units": 12}],
    "changed": {"email": 4, "kept/zh": 1},
    "refused": 1,
    "refused_messages": ["a.jsonl:3: not JSON"],
    "lengths": {"read": [[4.0, 2], [8.0, 1]], "kept": [[8.0, 1]]},
    "likelihoods": {"zh": {"kept": [[-3.0, 1]], "dropped": [[-7.25, 2]]}},
    "bounds": {"*": [None, None], "zh": [-6.5, None]},
    "samples": {
        "html": [
            {
                "id": "x",
                "source": "a.jsonl:1",
                "reason": "html",
                "detail": "markup 0.9",
                "characters": 40,
                "text": "<script>alert(1)</script>\u202e",
            }
        ],
        "kept": [],
    },
    "shards": ["corpus.jsonl"],
}


def page(folder: Path, result: object) -> str:
    (folder / "filter.json").write_text(json.dumps(result))
    return write_filter_page(folder).read_text(encoding="utf-8")


def test_the_page_tells_the_account_and_stands_alone(tmp_path: Path) -> None:
    text = page(tmp_path, RESULT)
    for part in ("1 of 3 documents are kept", "33.3%", ">html</a>", "66.7%", "a.jsonl:3: not JSON", "email", "zh 1"):
        assert part in text
    assert text.count("<svg") == 2
    assert "http" not in text.replace("http-equiv", "")


def test_texts_cannot_become_markup(tmp_path: Path) -> None:
    text = page(tmp_path, RESULT)
    assert "&lt;script&gt;alert(1)" in text
    assert "<script" not in text
    assert "\u202e" not in text


def test_a_run_that_kept_nothing_and_a_broken_file(tmp_path: Path) -> None:
    nothing = RESULT | {"kept": {"documents": 0, "characters": 0, "units": 0}, "lengths": {"read": []}, "samples": {}}
    assert "0 of 3 documents" in page(tmp_path, nothing)
    with pytest.raises(DataError, match="dropped"):
        page(tmp_path, {**RESULT, "dropped": [{"step": 3}]})
