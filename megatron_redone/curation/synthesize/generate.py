"""Writes the quickstart's data: a pretraining corpus, rows of every task in four splits, and general rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from megatron_redone.common.jsonl import write_jsonl
from megatron_redone.common.seeding import rng
from megatron_redone.curation.interactions.log import write_log
from megatron_redone.curation.interactions.synthesis import NOTES, SESSIONS
from megatron_redone.curation.synthesize.config import SynthesizeConfig
from megatron_redone.curation.synthesize.corpus import corpus
from megatron_redone.curation.synthesize.faults import with_faults
from megatron_redone.curation.synthesize.task_rows import TaskRows
from megatron_redone.curation.synthesize.texts import SPLITS
from megatron_redone.tasks.row import Row

GENERAL_TASK = "arithmetic"


def generate(config: SynthesizeConfig, out: Path, seed: int) -> dict[str, Any]:
    """Writes the data set into an existing folder; equal settings and seeds give equal bytes.

    Files: `corpus.jsonl` (id, text, form, language, source; `fault` where one is planted), the log that its
    interaction documents are made of (`sessions.jsonl`, `notes.jsonl`), a file of rows for each split (`train.jsonl`,
    `validation.jsonl`, `diagnosis.jsonl`, `test.jsonl`), and `general.jsonl` (sums with rationale, none of which is a
    row of any split). No text is shared between splits, in either language, and the corpus and the general rows hold
    texts of the train split only, but for what `faults.held_out` leaks on purpose.

    Returns:
        Counts: `corpus` by form, by language and by planted fault, `rows` by split, task and language, `general` by
        language.

    Raises:
        InputError: more rows or documents are asked for than the invented world has.
    """
    rows_by_split: dict[str, list[Row]] = {split: [] for split in SPLITS}
    sources = {task: TaskRows(task, seed) for task in (*config.tasks, GENERAL_TASK)}
    for task in config.tasks:
        for split in SPLITS:
            rows_by_split[split].extend(sources[task].rows(split, config.rows.of(split)))
    general = sources[GENERAL_TASK].rows("train", config.general_rows, purpose="general_rows")
    for split, rows in rows_by_split.items():
        rng(seed, "order", split).shuffle(rows)
        write_jsonl(out / f"{split}.jsonl", (row.to_json() for row in rows))
    write_jsonl(out / "general.jsonl", (row.to_json() for row in general))
    made = corpus(seed, config.corpus_documents)
    documents = with_faults(seed, config.faults, made.documents, rows_by_split["test"])
    write_jsonl(out / "corpus.jsonl", documents)
    write_log(out / f"{SESSIONS}.jsonl", made.interactions.sessions)
    write_log(out / f"{NOTES}.jsonl", made.interactions.notes)
    return {
        "corpus": {
            "documents": len(documents),
            "by_form": _counts(document["form"] for document in documents),
            "by_language": _counts(document["language"] for document in documents),
            "by_fault": _counts(document["fault"] for document in documents if "fault" in document),
        },
        "rows": {
            split: {task: _counts(row.language for row in rows if row.task == task) for task in config.tasks}
            for split, rows in rows_by_split.items()
        },
        "general": _counts(row.language for row in general),
    }


def _counts(values: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(values).items()))
