"""Two valid rows of every task in every language, with texts that appear in no data set.

Tasks without an entry here use their example, once as it is and once with a rationale.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from megatron_redone.tasks.answers import yes_no
from megatron_redone.tasks.base import Row
from megatron_redone.tasks.catalogue import TASKS
from megatron_redone.tasks.examples import example_row

NOTE = {
    "en": {
        "title": "Sunday with 2 kayaks in Norvik",
        "content": "We paddled to Norvik. Bring dry socks, trust me!",
    },
    "zh": {"title": "周日在诺维克划2只皮艇", "content": "我们划到了诺维克。记得带干袜子！"},
}
TOPICS = {"en": ["Outdoors", "Food & Drink", "Pets"], "zh": ["户外", "美食", "宠物"]}
NOTES = {"en": ["kayak repair", "sock knitting", "soup of the day"], "zh": ["修皮艇", "织袜子", "今日例汤"]}
YES_NO = {"en": ("Yes", "No"), "zh": ("是", "否")}
RATIONALE = "first this,\nthen that"
ENGLISH_TEXT, CHINESE_TEXT = "Dry socks are happiness 😊", "干袜子就是幸福😊"

# task -> (fields, answers of the two rows), by the key of the language
_SAMPLES: dict[str, Any] = {
    "note_taxonomy_single": lambda k: ({**NOTE[k], "candidates": TOPICS[k]}, (TOPICS[k][0], TOPICS[k][1])),
    "note_taxonomy_multiple": lambda k: (
        {
            **NOTE[k],
            "candidates_primary": TOPICS[k],
            "candidates_secondary": NOTES[k],
            "candidates_tertiary": [*TOPICS[k], *NOTES[k]],
        },
        ([TOPICS[k][0], NOTES[k][0], TOPICS[k][0]], [TOPICS[k][2], NOTES[k][1], NOTES[k][2]]),
    ),
    "query_classification": lambda k: (
        {"query": NOTES[k][0], "categories": [f"{a}-{b}" for a, b in zip(TOPICS[k], NOTES[k], strict=True)]},
        (
            [f"{TOPICS[k][0]}-{NOTES[k][0]}"],
            [f"{TOPICS[k][2]}-{NOTES[k][2]}", f"{TOPICS[k][0]}-{NOTES[k][0]}"],
        ),
    ),
    "query_intent": lambda k: (
        {"query": NOTES[k][0], "intents": [f"{a}-{b}" for a, b in zip(TOPICS[k], NOTES[k], strict=True)]},
        (f"{TOPICS[k][0]}-{NOTES[k][0]}", f"{TOPICS[k][1]}-{NOTES[k][1]}"),
    ),
    "note_security": lambda k: ({**NOTE[k], "labels": [*TOPICS[k], "spam"]}, ("spam", TOPICS[k][0])),
    "gender_sensitive_appeal": lambda k: (NOTE[k], YES_NO[k]),
    "hashtag_single": lambda k: ({**NOTE[k], "candidates": TOPICS[k]}, (TOPICS[k][0], TOPICS[k][2])),
    "hashtag_multiple": lambda k: ({**NOTE[k], "candidates": TOPICS[k]}, (TOPICS[k][:1], TOPICS[k][1:])),
    "note_ner": lambda k: (
        {"entity_type": {"en": "place", "zh": "地点"}[k], "content": NOTE[k]["content"]},
        {"en": (["Norvik"], ["dry socks", "Norvik"]), "zh": (["诺维克"], ["干袜子", "诺维克"])}[k],
    ),
    "highlight_words": lambda k: (
        {"comment": NOTE[k]["content"], "candidates": [*NOTES[k], 'it\'s "new"']},
        ([], [NOTES[k][1], 'it\'s "new"']),
    ),
    "mrc_simple": lambda k: (
        {"query": NOTES[k][1], "sentences": [NOTE[k]["title"], NOTE[k]["content"]]},
        ([], [NOTE[k]["content"]]),
    ),
    "question_document_match": lambda k: (
        {"question": NOTES[k][0] + "?", "document": NOTE[k]["content"]},
        YES_NO[k],
    ),
    "query_note_relevance": lambda k: ({"query": NOTES[k][0], "note": NOTE[k]["content"]}, (-1, 3)),
    "query_note_relevance_yes_no": lambda k: ({"query": NOTES[k][0], "note": NOTE[k]["content"]}, YES_NO[k]),
    "query_note_retrieval": lambda k: ({"query": NOTES[k][0], "notes": NOTES[k]}, ("A", "C")),
    "post_view_search": lambda k: (
        {**NOTE[k], "labels": TOPICS[k][:2], "comments": NOTES[k][:2]},
        (NOTES[k][0], NOTES[k][2]),
    ),
    "next_query": lambda k: (
        {"queries": NOTES[k][:2], "clicked": [NOTE[k]["title"]]},
        (NOTES[k][2], NOTES[k][0]),
    ),
    "click_ranking": lambda k: (
        {"query": NOTES[k][0], "notes": NOTES[k]},
        (["B", "A", "C"], ["C", "B", "A"]),
    ),
    "emotional_companion": lambda k: (
        {"persona": TOPICS[k][0], "message": NOTES[k][1], "max_words": 9, "cues": ["take care", "抱抱"]},
        {"en": ("Take care, dear friend!", "please take care"), "zh": ("抱抱你，别怕！", "来抱抱")}[k],
    ),
    "note_translation_zh_en": lambda k: ({"text": CHINESE_TEXT}, (ENGLISH_TEXT, "Dry socks mean joy.")),
    "note_translation_en_zh": lambda k: ({"text": ENGLISH_TEXT}, (CHINESE_TEXT, "袜子干了，真开心。")),
    "title_recreation": lambda k: (
        {**NOTE[k], "keep": {"en": ["2", "Norvik"], "zh": ["2", "诺维克"]}[k], "max_words": 12},
        {
            "en": ("Norvik by kayak: 2 boats, 1 rule", "2 kayaks to Norvik"),
            "zh": ("诺维克2只皮艇", "去诺维克，2只艇"),
        }[k],
    ),
    "arithmetic": lambda k: ({"question": {"en": "what is 7 + 5?", "zh": "7 + 5等于多少？"}[k]}, ("12", 12)),
}


def sample_rows(task: str, language: str) -> list[Row]:
    """Two valid rows; the second one has a rationale."""
    if task not in _SAMPLES:
        return _example_rows(example_row(task, language))
    fields, answers = _SAMPLES[task](language)
    return [
        Row(
            id=f"{task}-{language}-{index}",
            task=task,
            language=language,
            fields=fields,
            answer=answer,
            rationale=RATIONALE if index else None,
            source="sample",
        )
        for index, answer in enumerate(answers)
    ]


def _example_rows(row: Row) -> list[Row]:
    """The example twice; both answers of a yes-or-no question."""
    first, second = YES_NO[row.language] if TASKS[row.task].options is yes_no else (row.answer, row.answer)
    return [replace(row, answer=first), replace(row, id=f"{row.id}-2", answer=second, rationale=RATIONALE)]


CASES = [(name, language) for name, task in TASKS.items() for language in task.languages]
SCORED_CASES = [(name, language) for name, language in CASES if TASKS[name].reward_kind != "sandbox"]
"""Those whose answers can be scored on every machine: a sandbox may be missing."""
