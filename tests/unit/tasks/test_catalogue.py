from __future__ import annotations

import pytest

from megatron_redone.common.errors import InputError, SandboxUnavailableError
from megatron_redone.rl.prompts import PromptQueue
from megatron_redone.tasks.catalogue import TASKS, check_scorable, get_task
from megatron_redone.tasks.examples import example_row

EXPECTED = {
    "content_understanding": {
        "note_taxonomy_single", "note_taxonomy_multiple", "query_classification", "query_intent",
        "note_security", "gender_sensitive_appeal",
    },
    "information_extraction": {
        "hashtag_single", "hashtag_multiple", "note_ner", "highlight_words", "mrc_simple",
        "question_document_match",
    },
    "semantic_matching": {"query_note_relevance", "query_note_relevance_yes_no", "query_note_retrieval"},
    "user_behaviour": {"post_view_search", "next_query", "click_ranking"},
    "dialogue": {"emotional_companion"},
    "translation": {"note_translation_zh_en", "note_translation_en_zh"},
    "online": {"title_recreation"},
    "general": {"arithmetic"},
}  # fmt: skip


def test_capabilities_and_names() -> None:
    found: dict[str, set[str]] = {}
    for name, task in TASKS.items():
        assert name == task.name
        assert set(task.languages) == set(task.templates) == {"en", "zh"}
        found.setdefault(task.capability, set()).add(name)
    assert {capability: found[capability] & names for capability, names in EXPECTED.items()} == EXPECTED


def test_programs_are_refused_before_anything_is_generated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("megatron_redone.scoring.sandbox.pool.problems_of_backend", lambda backend: ("broken",))
    rows = [example_row("code_generation", "en"), example_row("note_security", "en")]
    check_scorable(rows[1:])
    with pytest.raises(SandboxUnavailableError, match="1 of code_generation"):
        check_scorable(rows)
    with pytest.raises(SandboxUnavailableError, match="1 of code_generation"):
        PromptQueue(rows, balance=1.0, seed=0)


def test_programs_are_welcome_where_a_sandbox_is_safe(sandbox_backend: str) -> None:
    rows = [example_row("code_generation", "en"), example_row("note_security", "en")]
    check_scorable(rows)
    PromptQueue(rows, balance=1.0, seed=0)


def test_get_task() -> None:
    assert get_task("note_ner") is TASKS["note_ner"]
    with pytest.raises(
        InputError, match="task 'note_taxonomy_singel' is not in the catalogue; did you mean 'note_taxo"
    ):
        get_task("note_taxonomy_singel")
    with pytest.raises(InputError, match="known tasks: note_taxonomy_single, "):
        get_task("zzzzqqqq")
