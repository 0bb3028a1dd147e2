from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from megatron_redone.common.errors import InputError
from megatron_redone.curation.synthesize.config import TASK_NAMES, RowsPerTask, SynthesizeConfig
from megatron_redone.curation.synthesize.generate import generate
from megatron_redone.curation.synthesize.task_rows import ROW_MAKERS
from megatron_redone.curation.synthesize.texts import LANGUAGES, SPLITS, normalised
from megatron_redone.tasks.baselines import copy_options, empty_prediction, majority_answer
from megatron_redone.tasks.catalogue import get_task
from megatron_redone.tasks.row import Row

from .conftest import Written

SMALL = {"rows": {"train": 8, "validation": 2, "diagnosis": 4, "test": 4}, "general_rows": 10}
TEXT_FIELDS = ("title", "content", "query", "note", "question", "document", "comment", "message", "text")
LIST_FIELDS = ("notes", "comments")


def small(**changes: Any) -> SynthesizeConfig:
    return SynthesizeConfig.model_validate({**SMALL, "corpus_documents": 200, **changes})


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def free_texts(row: Row) -> Iterator[str]:
    """The texts of a row that are not options, and the answer where it is a text of its own."""
    for name in TEXT_FIELDS:
        if name in row.fields:
            yield normalised(row.fields[name])
    for name in LIST_FIELDS:
        yield from map(normalised, row.fields.get(name, ()))
    if row.task.startswith("note_translation") or row.task == "post_view_search":
        yield normalised(row.answer)


def sentences(text: str) -> list[str]:
    """Parts of a text that end with a mark; English marks need a blank behind, Chinese ones do not."""
    return [part.strip() for part in re.split(r"(?<=[.!?])\s|(?<=[。！？])", text) if part.strip()]


def test_equal_seeds_give_equal_bytes_and_other_seeds_other_rows(tmp_path: Path) -> None:
    for name, seed in (("first", 0), ("again", 0), ("other", 1)):
        (tmp_path / name).mkdir()
        generate(small(), tmp_path / name, seed)
    first, again, other = (files(tmp_path / name) for name in ("first", "again", "other"))
    assert set(first) == {
        "corpus.jsonl",
        "sessions.jsonl",
        "notes.jsonl",
        "general.jsonl",
        *(f"{split}.jsonl" for split in SPLITS),
    }
    assert first == again
    assert all(first[name] != other[name] for name in first)


def test_rows_of_a_task_do_not_depend_on_the_other_tasks(tmp_path: Path) -> None:
    for name, tasks in (("all", TASK_NAMES), ("one", ("note_ner",))):
        (tmp_path / name).mkdir()
        generate(small(tasks=tasks), tmp_path / name, 0)
    lines = (tmp_path / "all" / "test.jsonl").read_text(encoding="utf-8").splitlines()
    alone = (tmp_path / "one" / "test.jsonl").read_text(encoding="utf-8").splitlines()
    assert sorted(line for line in lines if '"note_ner"' in line) == sorted(alone)


def test_every_split_has_as_many_rows_as_asked_half_in_each_language(written: Written) -> None:
    asked = RowsPerTask()
    for split in SPLITS:
        counts = Counter((row.task, row.language) for row in written.rows[split])
        assert counts == {(task, lang): asked.of(split) // 2 for task in TASK_NAMES for lang in LANGUAGES}
        assert written.counts["rows"][split] == {
            task: {lang: asked.of(split) // 2 for lang in LANGUAGES} for task in TASK_NAMES
        }
    assert len(written.rows["train"]) >= 4000
    assert written.counts["general"] == {"en": 400, "zh": 400}
    assert all(row.task == "arithmetic" and row.rationale for row in written.general)


def test_ids_name_task_and_content_and_are_unique(written: Written) -> None:
    rows = [row for split in SPLITS for row in written.rows[split]] + written.general
    assert all(re.fullmatch(rf"{row.task}-[0-9a-f]{{16}}", row.id) for row in rows)
    assert len({row.id for row in rows}) == len(rows)
    assert len({document["id"] for document in written.corpus}) == len(written.corpus)


def test_no_text_is_shared_between_splits(written: Written) -> None:
    owner: dict[str, str] = {}
    for split in SPLITS:
        for row in written.rows[split]:
            for text in free_texts(row):
                for part in {text, *sentences(text)}:
                    assert owner.setdefault(part, split) == split, part


def test_neither_corpus_nor_general_rows_hold_a_held_out_text(written: Written) -> None:
    held_out = {
        part
        for split in SPLITS[1:]
        for row in written.rows[split]
        for text in free_texts(row)
        for part in {text, *sentences(text)}
    }
    known = {normalised(document["text"]) for document in written.corpus}
    known |= {normalised(row.fields["question"]) for row in written.general}
    shared = held_out & {part for text in known for part in {text, *sentences(text)}}
    assert not shared
    queries = {text for text in held_out if not re.search(r"[.!?。！？]", text) and len(text) > 3}
    searched = {piece.strip(" :：。.") for text in known for piece in re.split(r"search(?:ed)?|搜索?|[.,。，]", text)}
    shared = queries & searched
    assert not shared


def test_every_row_is_valid_for_its_task(written: Written) -> None:
    for row in [row for split in SPLITS for row in written.rows[split]] + written.general:
        assert get_task(row.task).validate(row) == []


@pytest.mark.parametrize("name", TASK_NAMES)
def test_baselines_without_a_model_stay_low(written: Written, name: str) -> None:
    task = get_task(name)
    train, test = ([row for row in written.rows[split] if row.task == name] for split in ("train", "test"))
    majority = majority_answer(task, train)
    answers = {
        "empty": [empty_prediction(task, row) for row in test],
        "majority": [majority(row) for row in test],
        "copy": [copy_options(task, row) or "" for row in test],
        "constant": [task.answer_text(train[0])] * len(test),
    }
    reached = {kind: task.scorer.aggregate(task.score(texts, test)) for kind, texts in answers.items()}
    assert max(reached.values()) <= 0.56, reached


@pytest.mark.parametrize("split", SPLITS)
def test_the_right_option_stands_everywhere_equally_often(written: Written, split: str) -> None:
    for task in ("note_taxonomy_single", "query_intent", "note_security", "hashtag_single"):
        rows = [row for row in written.rows[split] if row.task == task]
        options = get_task(task).options
        assert options is not None
        places = Counter(options(row)[0].index(row.answer) for row in rows)
        assert max(places.values()) - min(places.values()) <= 2, (task, places)
    letters = Counter(row.answer for row in written.rows[split] if row.task == "query_note_retrieval")
    assert max(letters.values()) - min(letters.values()) <= 2


def test_classes_are_balanced(written: Written) -> None:
    most = {"gender_sensitive_appeal": 0.5, "question_document_match": 0.5, "query_note_relevance": 0.2}
    most |= {"note_taxonomy_single": 0.1, "note_security": 0.26, "query_intent": 0.18, "hashtag_single": 0.06}
    for split in SPLITS:
        for language in LANGUAGES:
            for task, share in most.items():
                rows = [row for row in written.rows[split] if (row.task, row.language) == (task, language)]
                answers = Counter(str(row.answer) for row in rows)
                assert max(answers.values()) <= share * len(rows) + 1, (task, split, answers)


def test_texts_are_short_and_their_vocabulary_is_closed(written: Written) -> None:
    rows = [row for split in SPLITS for row in written.rows[split]]
    english = [text for row in rows if row.language == "en" for text in free_texts(row) if text.isascii()]
    assert max(len(text.split()) for text in english) <= 14
    words = {word for text in english for word in re.findall(r"[a-z]+", text)}
    assert len(words) <= 600
    in_corpus = {word for document in written.corpus for word in re.findall(r"[a-z]+", document["text"])}
    assert words <= in_corpus | {"of", "is"} and len(in_corpus) <= 700


def test_corpus_has_every_form_in_both_languages_and_no_prompt(written: Written) -> None:
    forms = Counter((document["form"], document["language"]) for document in written.corpus)
    assert sum(forms.values()) == 12_000
    for form in ("single_search", "consecutive_searches", "click_through", "note", "general"):
        assert forms[form, "en"] >= 300 and forms[form, "en"] == forms[form, "zh"]
    assert max(len(document["text"].split()) for document in written.corpus) <= 60
    text = "\n".join(document["text"] for document in written.corpus)
    for name in TASK_NAMES:
        for template in get_task(name).templates.values():
            opening = template.split("\n")[0].split("{")[0].strip()
            assert opening not in text, opening


def test_a_split_with_more_rows_than_the_world_has_is_refused(tmp_path: Path) -> None:
    config = small(tasks=("query_intent",), rows={**SMALL["rows"], "validation": 40_000})
    with pytest.raises(InputError, match=r"'validation', 40000 asked: task 'query_intent' repeats itself in 'en'"):
        generate(config, tmp_path, 0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tasks": ("note_nerd",)}, "nearest is 'note_ner'"),
        ({"tasks": ("note_ner", "note_ner")}, "stands twice"),
        ({"tasks": ()}, "at least 1 item"),
        ({"rows": {"train": 5}}, "multiple of 2"),
        ({"rows": {"dev": 4}}, "Extra inputs"),
    ],
)
def test_bad_settings_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        SynthesizeConfig.model_validate(changes)


def test_every_task_of_the_settings_has_a_maker() -> None:
    assert tuple(ROW_MAKERS) == TASK_NAMES


def test_the_settings_need_no_torch() -> None:
    code = "import sys; sys.modules['torch'] = None; import megatron_redone.curation.synthesize.config"
    subprocess.run([sys.executable, "-c", code], check=True)
