"""IFEval's instruction ids and their settings as constraints of ours (Zhou et al. 2023, 25 kinds).

The checks are our own (`constraint_checks.py`) and agree with the published checker, as `docs/general_bench.md` shows,
but for the language of a text: IFEval asks langdetect, whose answers change from run to run, and for texts in capitals
or in small letters too. Here English is told by its letters and other languages by py3langid.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from megatron_redone.common.errors import DataError
from megatron_redone.scoring.constraints import constraint_problems

Settings = Mapping[str, Any]
CONSTRAINED_ANSWERS = ("My answer is yes.", "My answer is no.", "My answer is maybe.")


def _bound(relation: str, number: int) -> dict[str, int]:
    return {"minimum": number} if relation == "at least" else {"maximum": number - 1}


_CONSTRAINTS: dict[str, Callable[[Settings], dict[str, Any]]] = {
    "punctuation:no_comma": lambda k: {"kind": "no_comma"},
    "length_constraints:number_words": lambda k: {"kind": "words", **_bound(k["relation"], k["num_words"])},
    "length_constraints:number_sentences": lambda k: {
        "kind": "sentences",
        "splitter": "punkt",
        **_bound(k["relation"], k["num_sentences"]),
    },
    "length_constraints:number_paragraphs": lambda k: {
        "kind": "paragraphs",
        "count": k["num_paragraphs"],
        "separator": "stars",
    },
    "length_constraints:nth_paragraph_first_word": lambda k: {
        "kind": "paragraph_opening",
        "count": k["num_paragraphs"],
        "paragraph": k["nth_paragraph"],
        "word": k["first_word"],
    },
    "detectable_format:number_highlighted_sections": lambda k: {"kind": "highlights", "minimum": k["num_highlights"]},
    "detectable_format:title": lambda k: {"kind": "title"},
    "detectable_format:json_format": lambda k: {"kind": "json_only"},
    "detectable_format:multiple_sections": lambda k: {
        "kind": "sections",
        "marker": k["section_spliter"].strip(),
        "count": k["num_sections"],
    },
    "detectable_format:number_bullet_lists": lambda k: {"kind": "bullets", "count": k["num_bullets"]},
    "detectable_format:constrained_response": lambda k: {
        "kind": "one_of",
        "expressions": list(CONSTRAINED_ANSWERS),
        "literal": True,
    },
    "detectable_content:number_placeholders": lambda k: {"kind": "placeholders", "minimum": k["num_placeholders"]},
    "detectable_content:postscript": lambda k: {"kind": "postscript", "marker": k["postscript_marker"]},
    "keywords:existence": lambda k: {"kind": "keywords", "expressions": k["keywords"], "inside_words": True},
    "keywords:forbidden_words": lambda k: {"kind": "forbidden", "expressions": k["forbidden_words"]},
    "keywords:frequency": lambda k: {
        "kind": "keyword_count",
        "expression": k["keyword"],
        "inside_words": True,
        **_bound(k["relation"], k["frequency"]),
    },
    "keywords:letter_frequency": lambda k: {
        "kind": "letter_count",
        "letter": k["letter"],
        **_bound(k["let_relation"], k["let_frequency"]),
    },
    "change_case:capital_word_frequency": lambda k: {
        "kind": "capital_words",
        **_bound(k["capital_relation"], k["capital_frequency"]),
    },
    "change_case:english_capital": lambda k: {"kind": "upper_case"},
    "change_case:english_lowercase": lambda k: {"kind": "lower_case"},
    "combination:repeat_prompt": lambda k: {"kind": "starts_with", "expression": k["prompt_to_repeat"]},
    "combination:two_responses": lambda k: {"kind": "two_responses"},
    "startend:end_checker": lambda k: {"kind": "ends_with", "expression": k["end_phrase"]},
    "startend:quotation": lambda k: {"kind": "quoted", "straight": True},
    "language:response_language": lambda k: {"kind": "language", "code": k["language"]},
}


def ifeval_constraints(instruction_ids: Sequence[str], settings: Sequence[Settings]) -> list[dict[str, Any]]:
    """The constraints of one IFEval prompt, as a row of `instruction_following` holds them.

    Args:
        instruction_ids, settings: `instruction_id_list` and `kwargs` of the prompt, of one length.

    Raises:
        DataError: an unknown instruction, a setting that is absent, or one that no check of ours has (a language
            other than English and Chinese); the message names it.
    """
    if len(instruction_ids) != len(settings):
        raise DataError(f"{len(instruction_ids)} instructions with {len(settings)} settings; give one for each")
    found = []
    for name, given in zip(instruction_ids, settings, strict=True):
        if name not in _CONSTRAINTS:
            raise DataError(f"{name!r} is no instruction of IFEval; known: {', '.join(_CONSTRAINTS)}")
        try:
            constraint = _CONSTRAINTS[name](given)
        except KeyError as error:
            raise DataError(f"instruction {name!r} lacks the setting {error.args[0]!r}") from error
        if problems := constraint_problems(constraint):
            raise DataError(f"instruction {name!r}: {'; '.join(problems)}")
        found.append(constraint)
    return found
