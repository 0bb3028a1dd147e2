"""What a model is asked on SNS-Bench: the demands of the published prompts in words of our own, without examples.

`{name}` stands for a field of the row. A prompt set of one's own (`--prompt-set`) replaces any of them.
"""

from __future__ import annotations

from collections.abc import Mapping

from megatron_redone.evaluation.benchmark import Prompt

_ONLY = "Reply with the answer alone, without a comment."

PROMPTS: Mapping[str, Prompt] = {
    "Note-Taxonomy-single.json": Prompt(
        "You sort notes of a social network into categories. For the note, pick the one candidate category that fits "
        f"best and copy it exactly as it is spelled. {_ONLY}",
        "{content}\nCandidate categories: {candidates}\nAnswer:",
    ),
    "Note-Taxonomy-multiple.json": Prompt(
        "You sort notes of a social network into a tree of categories with three levels. Pick one primary, one "
        "secondary and one tertiary category from the candidates, spelled as there, and write them in one line as "
        f"Primary | Secondary | Tertiary. {_ONLY}",
        "{content}\nCandidate primary categories: {candidates_primary}\n"
        "Candidate secondary categories: {candidates_secondary}\n"
        "Candidate tertiary categories: {candidates_tertiary}\nAnswer:",
    ),
    "Note-Hashtag-single.json": Prompt(
        "You choose topic tags for notes of a social network. One of the candidate tags fits the note best: copy it "
        f"exactly as it is spelled. {_ONLY}",
        "{content}\nCandidate topic tags: {candidates}\nAnswer:",
    ),
    "Note-Hashtag-multiple.json": Prompt(
        "You choose topic tags for notes of a social network. Several of the candidate tags may fit: write all that "
        f"do, spelled as in the candidates, in one line with a comma between two. {_ONLY}",
        "{content}\nCandidate topic tags: {candidates}\nAnswer:",
    ),
    "Note-QueryCorr-explain.json": Prompt(
        "You judge search results of a social network. Decide whether the note answers or explains what the query is "
        "after. Reply with Yes or No and nothing else.",
        "Query: {sentence1}\nNote: {sentence2}\nAnswer:",
    ),
    "Note-QueryCorr-topic.json": Prompt(
        "You rate how well a note matches a search query, on five levels.\n"
        "3: the main topic of the note is what the query asks for, and most of the note is about it.\n"
        "2: the note is about it in large part, or misses a minor qualifier of the query.\n"
        "1: a small part of the note is about it.\n"
        "0: the note hardly touches it, or misses a qualifier that matters.\n"
        "-1: the note has nothing to do with the query.\n"
        "Reply with one of -1, 0, 1, 2, 3 and nothing else.",
        "{content}\nLevel:",
    ),
    "Note-MRC-simple.json": Prompt(
        "You find the answer to a question in a note. First decide whether the note answers the question; what the "
        "question names or restricts has to be met. If it does, take out the sentences that answer it: whole "
        "sentences or paragraphs, copied letter by letter with line breaks as \\n, sentences that follow one another "
        "kept together, nothing that does not answer, nothing summarised. Write them as a Python list of texts, one "
        "sentence or paragraph an item. Without an answer write the empty list []. Write nothing but the list.",
        "Question: {query}\nNote:\n{content}\nList:",
    ),
    "Note-MRC-complex.json": Prompt(
        "You take the answers to a search query out of a document. You are given Query, Level (the type of answer that "
        "is wanted) and Doc.\n"
        "1. From Query and Level, write what exactly is wanted (rewrite_query).\n"
        "2. In a sentence or two, say whether Doc is relevant to it; restrictions such as place and time count.\n"
        "3. If it is, list all answers in Doc (AnswerList). Each must be of the wanted type, a name that one could "
        "search for, in the words of Doc, without lead-ins such as figure or shop numbers. If a brand and a model are "
        "wanted, both must stand in the answer.\n"
        "4. For each answer copy a passage of Doc that speaks of it as its Reason, at most 100 characters, unchanged. "
        "If Doc is not relevant or holds no answer, the result is the empty list [].\n"
        "Write in this form:\n"
        "<rewrite_query>...</rewrite_query>\n<relevance_analysis>...</relevance_analysis>\n"
        '<AnswerList>["...", ...]</AnswerList>\n<Result>[{"Option": "...", "Reason": "..."}, ...]</Result>',
        "{content}",
    ),
    "Note-NER.json": Prompt(
        "You find entities in a passage. Write every entity of the type that the question asks for as it stands in the "
        f"passage, in upper and lower case as there, in one line with a comma between two. {_ONLY}",
        "Passage: {content}\nQuestion: {question}\nAnswer:",
    ),
    "Note-Gender.json": Prompt(
        "Decide whether a note would draw both men and women into a discussion between the sexes. Such are notes about "
        "stereotypes of men or women, unequal treatment in work, sports or interests, having children and parenting, "
        "marriage and families-in-law, love, quarrels and cheating, sexual matters and violence, and events in the "
        "news about these. Reply with Yes or No and nothing else.",
        "Note:\n{content}\nAnswer:",
    ),
    "Note-CHLW.json": Prompt(
        "Some words of a comment can be highlighted, so that a reader may tap them and search for them. Choose words "
        "or short phrases that are worth a search: specific things, places, products, works, methods. Small talk, and "
        "what says nothing outside its comment, is not. Write a Python list of texts, for example ['soy candle kit'], "
        "or [] when nothing is worth it. Write nothing but the list.",
        "{content}",
    ),
    "Note-QueryGen.json": Prompt(
        "After reading a note, a user of a social network types a new search. From the note, its tags, the text in its "
        "picture and its comments, guess one query that many readers would type next: about what they want to know "
        "beyond the note, in everyday words, understandable by itself. Reply with the query alone, in one line.",
        "{content}\nQuery:",
    ),
}
