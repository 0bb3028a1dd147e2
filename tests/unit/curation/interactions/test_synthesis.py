"""Logs become documents in the three forms, whole or not at all, and bad lines are refused with file and line."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from megatron_redone.common.errors import DataError, Interrupted
from megatron_redone.curation.interactions.config import InteractionsConfig, TrafficConfig
from megatron_redone.curation.interactions.log import write_log
from megatron_redone.curation.interactions.synthesis import Synthesized, synthesize_interactions
from megatron_redone.curation.interactions.traffic import Platform

from .conftest import Logs, documents, note, search, session


def run(
    logs: Path, out: Path, max_refused_share: float = 0.0, stop: Callable[[], None] = lambda: None, **settings: Any
) -> Synthesized:
    out.mkdir(exist_ok=True)
    config = InteractionsConfig.model_validate({"single_share": 0, "min_users": 1, **settings})
    return synthesize_interactions(config, logs, logs, out, 7, max_refused_share, stop)


def only(found: list[dict[str, Any]], form: str) -> dict[str, Any]:
    (document,) = [one for one in found if one["form"] == form]
    return document


def test_a_single_search_tells_time_query_notes_in_order_reading_times_and_the_next_action(
    logs: Logs, tmp_path: Path
) -> None:
    logs.write("sessions.jsonl", session(0, search(15, "best tent", [("n3", 41), ("n1", 130)])))
    run(logs.folder, tmp_path / "out", style="compact")
    document = only(documents(tmp_path / "out"), "single_search")
    assert document["text"] == (
        "9 pm, search: best tent. clicked title 3: content 3. read 41 seconds. "
        "clicked title 1: content 1. read 2 minutes 10 seconds. then left."
    )
    assert (document["language"], document["source"]) == ("en", "sessions.jsonl:1")
    assert (document["made_of"], document["notes"]) == (["s0"], ["n3", "n1"])


def test_consecutive_searches_tell_all_rounds_and_only_the_last_action(logs: Logs, tmp_path: Path) -> None:
    rounds = [search(1, "tent", [("n0", 5)]), search(3, "warm tent", []), search(5, "帐篷", [("n2", 60)])]
    logs.write("sessions.jsonl", session(0, *rounds, next_action="more_notes", language="en"))
    run(logs.folder, tmp_path / "out", style="compact", forms=("consecutive_searches",))
    document = only(documents(tmp_path / "out"), "consecutive_searches")
    assert document["text"] == (
        "9 pm, search: tent. clicked title 0: content 0. read 5 seconds. search: warm tent. "
        "search: 帐篷. clicked title 2: content 2. read 60 seconds. then viewed more notes."
    )


def test_what_follows_a_search_that_is_not_the_last_is_a_new_query(logs: Logs, tmp_path: Path) -> None:
    rounds = [search(minute, f"tent {minute}", [("n0", 5)]) for minute in range(3)]
    logs.write("sessions.jsonl", session(0, *rounds))
    run(logs.folder, tmp_path / "singly", style="compact", single_share=1, forms=("single_search",))
    ends = [document["text"].rsplit("then ")[-1] for document in documents(tmp_path / "singly")]
    assert ends == ["started a new query.", "started a new query.", "left."]
    run(logs.folder, tmp_path / "pairs", style="compact", max_rounds=2, forms=("single_search", "consecutive_searches"))
    pair, rest = documents(tmp_path / "pairs")
    assert (pair["form"], rest["form"]) == ("consecutive_searches", "single_search")
    assert pair["text"].endswith("then started a new query.") and rest["text"].endswith("then left.")
    assert len({one["id"] for one in [*documents(tmp_path / "singly"), pair]}) == 4


def test_click_through_counts_users_and_ranks_notes_over_all_sessions(logs: Logs, tmp_path: Path) -> None:
    clicked = [["n0", "n1"], ["n0"], ["n2", "n0"], ["n1"], ["n4", "n2", "n1", "n0"]]
    lines = [
        session(number, search(1, query, [(one, 9) for one in notes]), user=f"u{number % 4}")
        for number, (notes, query) in enumerate(
            zip(clicked, ["Best  tent", "best tent", "ｂest TENT", "best tent", "best tent"], strict=True)
        )
    ]
    logs.write("sessions.jsonl", *lines)
    run(logs.folder, tmp_path / "out", style="compact", forms=("click_through",), max_not_clicked=2)
    document = only(documents(tmp_path / "out"), "click_through")
    assert document["text"] == (
        "4 users searched best tent. most clicked 1: content 0. 2: content 1. 3: content 2. "
        "not clicked 1: content 3. 2: content 5."
    )
    assert document["made_of"] == ["s0", "s1", "s2", "s3", "s4"]
    assert document["notes"] == ["n0", "n1", "n2", "n3", "n5"]


def test_a_frequent_query_makes_several_estimates_and_a_rare_one_none(logs: Logs, tmp_path: Path) -> None:
    lines = [session(number, search(number, "tent", [("n0", 3)])) for number in range(7)]
    logs.write("sessions.jsonl", *lines, session(7, search(50, "rare", [("n0", 3)])))
    made = run(logs.folder, tmp_path / "out", forms=("click_through",), max_searches=3, min_users=2)
    found = documents(tmp_path / "out")
    assert [one["made_of"] for one in found] == [["s0", "s1", "s2"], ["s3", "s4", "s5"]]
    assert made.counts["queries_of_too_few_users"] == 2


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "Invalid JSON"),
        ("[]", "Input should be an object"),
        (session(9), "searches: Tuple should have at least 1 item"),
        (session(9, search(1, " ", [])), r"searches\.0\.query: String should match"),
        (session(9, search(1, "q", [("n77", 1)])), "which is not among `shown`"),
        (session(9, search(1, "q", [("n1", -1)])), r"clicks\.0\.seconds: .* greater than or equal to 0"),
        (session(9, search(1, "q", []), next_action="slept"), "next_action: Input should be 'more_notes'"),
        (session(9, search(5, "q", []), search(4, "q", [])), "not in the order of their times"),
        (session(9, search(1, "q", [], ["n1", "n1"])), "names a note twice"),
        (session(9, search(1, "q", []), language="fr"), "language: Input should be 'en' or 'zh'"),
        (session(9, search(1, "q", []), age=5), "age: Extra inputs are not permitted"),
        (session(0, search(1, "q", [("n1", 1)])), "the id 's0' was met before"),
    ],
)
def test_a_bad_session_is_refused_with_file_and_line(
    logs: Logs, tmp_path: Path, line: dict[str, Any] | str, reason: str
) -> None:
    good = [session(number, search(1, "q", [("n1", 1)])) for number in range(3)]
    path = logs.write("sessions.jsonl", *good, line)
    made = run(logs.folder, tmp_path / "out", max_refused_share=0.2)
    assert made.counts["lines_refused"] == 1 and made.counts["sessions"] == 3
    (message,) = made.refused
    assert message.startswith(f"{path}:4: ")
    with pytest.raises(DataError, match=rf"1 of 10 lines refused[\s\S]*{reason}"):
        run(logs.folder, tmp_path / "strict")


@pytest.mark.parametrize("style", ["full", "compact"])
def test_what_users_wrote_is_never_read_as_a_template(logs: Logs, tmp_path: Path, style: str) -> None:
    query, title, content = "{query} %s {0}", "{title!r}", "a \u0000 {content} \\n \u2028 }{ 'b'"
    logs.write("notes.jsonl", note(0, title=title, content=content), note(1))
    lines = [session(number, search(1, query, [("n0", 1)], ["n0", "n1"])) for number in range(8)]
    logs.write("sessions.jsonl", *lines)
    run(logs.folder, tmp_path / "out", style=style)
    found = documents(tmp_path / "out")
    assert len(found) == 9
    for document in found:
        assert query in document["text"] and content in document["text"]


def test_a_note_that_stands_twice_is_refused_and_the_first_one_counts(logs: Logs, tmp_path: Path) -> None:
    logs.write("notes.jsonl", note(0), note(0, content="another"), note(1, title=""))
    logs.write("sessions.jsonl", session(0, search(1, "q", [("n0", 1), ("n1", 2), ("n5", 3)])))
    made = run(logs.folder, tmp_path / "out", max_refused_share=0.5, style="compact")
    text = only(documents(tmp_path / "out"), "single_search")["text"]
    assert "content 0." in text and "another" not in text
    assert "clicked content 1. read 2 seconds." in text  # without a title
    assert made.counts["clicks_on_unknown_notes"] == 1 and made.counts["lines_refused"] == 1


def test_notes_that_do_not_fit_the_logs_are_told(logs: Logs, tmp_path: Path) -> None:
    logs.write("notes.jsonl", note(77))
    logs.write("sessions.jsonl", session(0, search(1, "q", [("n0", 1)])))
    with pytest.raises(DataError, match=r"no document came of 1 sessions and 1 notes.*clicks_on_unknown_notes 1"):
        run(logs.folder, tmp_path / "out")


def test_a_cut_gzip_file_is_refused_with_the_line(logs: Logs, tmp_path: Path) -> None:
    lines = b"".join(
        (f'{{"id": "x{number}", "title": "{number * 7919}", "content": "c{number * 104729}"}}\n').encode()
        for number in range(3_000)
    )
    (logs.folder / "notes.jsonl").unlink()
    packed = logs.folder / "notes.jsonl.gz"
    packed.write_bytes(gzip.compress(lines)[:-2_000])
    logs.write("sessions.jsonl", session(0, search(1, "q", [])))
    with pytest.raises(DataError, match=r"notes.jsonl.gz:\d+: cannot be read on from here"):
        run(logs.folder, tmp_path / "out")


def test_an_empty_file_and_an_empty_folder_are_refused(logs: Logs, tmp_path: Path) -> None:
    logs.write("sessions.jsonl")
    with pytest.raises(DataError, match=r"sessions.jsonl: the file is empty"):
        run(logs.folder, tmp_path / "out")
    with pytest.raises(DataError, match=r"no \*.jsonl and no \*.jsonl.gz in it"):
        run(tmp_path / "out", tmp_path / "other")


def test_many_bad_lines_end_the_job_long_before_the_end_of_the_file(logs: Logs, tmp_path: Path) -> None:
    logs.write("sessions.jsonl", *["{}"] * 5_000)
    with pytest.raises(DataError, match=r"of 1000 lines refused"):
        run(logs.folder, tmp_path / "out", max_refused_share=0.05)


@pytest.fixture(scope="module")
def traffic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A generated log in three files."""
    folder = tmp_path_factory.mktemp("traffic")
    config = TrafficConfig(num_notes=120, num_queries=12, num_sessions=240)
    platform = Platform(config, 0)
    write_log(folder / "notes.jsonl", platform.notes())
    for part in range(3):
        write_log(folder / f"sessions-{part}.jsonl", map(platform.session, range(80 * part, 80 * part + 80)))
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_an_interrupted_job_goes_on_and_makes_the_same_bytes(traffic: Path, tmp_path: Path) -> None:
    whole = run(traffic, tmp_path / "whole", style="full")
    calls = 0

    def stop() -> None:
        nonlocal calls
        calls += 1
        if calls == 3:  # the notes and two of the three files are done
            raise Interrupted("stopped")

    with pytest.raises(Interrupted):
        run(traffic, tmp_path / "parts", stop=stop, style="full")
    before = (tmp_path / "parts" / "corpus-00001.jsonl").stat().st_mtime_ns
    again = run(traffic, tmp_path / "parts", style="full")
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")
    assert again.counts == whole.counts
    assert (tmp_path / "parts" / "corpus-00001.jsonl").stat().st_mtime_ns == before, "what was done is not done again"
    assert set(contents(tmp_path / "whole")) == {
        "corpus-00000.jsonl", "corpus-00001.jsonl", "corpus-00002.jsonl", "corpus-click-through.jsonl"
    }  # fmt: skip


def test_how_the_log_is_cut_into_files_changes_no_document_but_its_source(traffic: Path, tmp_path: Path) -> None:
    joined = tmp_path / "joined"
    joined.mkdir()
    (joined / "notes.jsonl").write_bytes((traffic / "notes.jsonl").read_bytes())
    parts = [path.read_bytes() for path in sorted(traffic.glob("sessions-*"))]
    (joined / "sessions.jsonl.gz").write_bytes(gzip.compress(b"".join(parts)))
    run(traffic, tmp_path / "three")
    run(joined, tmp_path / "one")
    one, three = (
        {document["id"]: {**document, "source": ""} for document in documents(tmp_path / name)}
        for name in ("one", "three")
    )
    assert one == three


def test_every_form_and_language_has_all_its_wordings_and_no_user_is_named(traffic: Path, tmp_path: Path) -> None:
    run(traffic, tmp_path / "out", single_share=0.5)
    found = documents(tmp_path / "out")
    openings: dict[tuple[str, str], set[str]] = {}
    for document in found:
        kind = "click_through" if document["form"] == "click_through" else "visit"
        last = document["text"].splitlines()[-1][:4]
        openings.setdefault((kind, document["language"]), set()).add(document["text"][:2] + last)
    assert all(len(kinds) >= 3 for kinds in openings.values()) and len(openings) == 4
    assert not any("user-0" in document["text"] or "session-" in document["text"] for document in found)
    assert len({document["id"] for document in found}) == len(found)
