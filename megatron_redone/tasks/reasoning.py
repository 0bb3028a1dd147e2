"""General abilities: mathematics, choices, reading, checking for made-up facts."""

from __future__ import annotations

import re

from megatron_redone.scoring.exact_match import ExactMatch
from megatron_redone.scoring.mathematics import MathMatch
from megatron_redone.scoring.pattern import after_cue, read_letter
from megatron_redone.scoring.short_answers import TokenF1
from megatron_redone.tasks import answer_lists as lists
from megatron_redone.tasks.answers import ANSWER_CUES, letter_list, letters_of
from megatron_redone.tasks.base import Field, Row
from megatron_redone.tasks.general import gold_text, parse_number
from megatron_redone.tasks.kinds import make_task, yes_or_no
from megatron_redone.tasks.list_kinds import write_line

CAPABILITY = "general"
_CHOICES = Field("choices", "texts", joined="letters")
_LETTERS = letters_of("choices")
_LAST_LETTER = re.compile(r"\\boxed\{\s*(?P<boxed>[A-Za-z])\s*\}|\*\*\s*(?P<bold>[A-Za-z])\s*\*\*")


def parse_last_choice(answer: str, row: Row) -> str | None:
    r"""The letter, alone or as `Answer: B` on the last line; there also in `\boxed{B}` or `**B**`."""
    lines = answer.strip().splitlines()
    last = lines[-1] if lines else ""
    cued = after_cue(last, ANSWER_CUES)
    text = cued if cued is not None else answer if len(lines) == 1 else ""
    marked = _LAST_LETTER.fullmatch(text.strip().rstrip(".。"))
    if marked:
        text = marked["boxed"] or marked["bold"]
    return read_letter(text, len(row.fields["choices"]))


def _final_letter(gold: str, row: Row) -> str:
    return f"Answer: {gold}" if row.language == "en" else f"答案：{gold}"


MATHEMATICS = make_task(
    "mathematics",
    CAPABILITY,
    {"en": "Problem: solve it step by step.", "zh": "数学题：一步一步解答。"},
    (Field("question"),),
    {
        "en": "End with the final answer in \\boxed{{}}; without it the last number counts.",
        "zh": "最后把答案写在 \\boxed{{}} 里；没有时以最后一个数为准。",
    },
    answer_format="generation",
    reward_kind="exact_match",
    parser=parse_number,
    scorer=MathMatch(),
    formatter=lambda gold, row: f"\\boxed{{{gold}}}",
    format_rule="an answer in \\boxed{}, or a last number",
    answer_kind="number",
    canonical=gold_text,
    paper="Mathematics (GSM8K, MATH500, AIME)",
)

MULTIPLE_CHOICE = make_task(
    "multiple_choice",
    CAPABILITY,
    {"en": "Exam: one choice is right.", "zh": "单选题：只有一个选项正确。"},
    (Field("question"), _CHOICES),
    {
        "en": "Reply with the letter alone, or end with a line such as: Answer: B",
        "zh": "只回复字母，或以“答案：B”这样的一行结尾。",
    },
    answer_format="choice",
    reward_kind="exact_match",
    parser=parse_last_choice,
    scorer=ExactMatch(),
    formatter=_final_letter,
    format_rule="one letter, alone or as `Answer: B` on the last line",
    options=_LETTERS,
    paper="Multiple choice (MMLU, CMMLU, C-Eval, GPQA, MMLU-Pro)",
)

MULTIPLE_ANSWERS = make_task(
    "multiple_answers",
    CAPABILITY,
    {"en": "Several right choices: find all of them.", "zh": "多选题：选出所有正确选项。"},
    (Field("question"), _CHOICES),
    {"en": "Reply with their letters, such as A, C.", "zh": "回复字母，如 A, C。"},
    answer_format="choice",
    reward_kind="exact_match",
    parser=lists.parse_letters(_LETTERS),
    scorer=ExactMatch(),
    formatter=letter_list,
    format_rule="letters separated by commas",
    answer_kind="texts",
    canonical=lists.sorted_letters,
    options=_LETTERS,
    paper="Multiple choice (GaokaoBench)",
)

READING_COMPREHENSION = write_line(
    "reading_comprehension",
    CAPABILITY,
    {"en": "Passage: answer the question from it.", "zh": "读文章：根据文章回答问题。"},
    (Field("passage"), Field("question")),
    TokenF1(),
    answer_format="extraction",
    form={
        "en": "Reply with a few words of the passage on one line and nothing else.",
        "zh": "只用一行回复文章中的几个词。",
    },
    answer_kind="texts",
    canonical=lambda row: str(row.answer[0]),
    reference=lambda row: list(row.answer),
    paper="Reading",
)

HALLUCINATION_DETECTION = yes_or_no(
    "hallucination_detection",
    CAPABILITY,
    {
        "en": "Made up: does the reply say anything that the knowledge does not bear out?",
        "zh": "幻觉检测：回复中有没有已知信息不支持的内容？",
    },
    (Field("knowledge"), Field("question"), Field("reply")),
    paper="Hallucination detection (HaluEval)",
)

TASKS = (MATHEMATICS, MULTIPLE_CHOICE, MULTIPLE_ANSWERS, READING_COMPREHENSION, HALLUCINATION_DETECTION)
