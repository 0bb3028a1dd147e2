"""Source 3: pairs that a judge labels, and the measure of its agreement with people (RedOne, section 3.3.1).

The paper lets experts label answers to subjective tasks, measures how well trained judge models agree with them, and
lets those that agree label more. Here the measure is an artefact of its own, and pairs are labelled only with one that
passed and is of the very same judge.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from megatron_redone.common.errors import DataError, InputError
from megatron_redone.common.seeding import derive_seed
from megatron_redone.curation.pairs.config import JudgeAgreementConfig, JudgeConfig
from megatron_redone.curation.pairs.pair import How, Pair
from megatron_redone.curation.pairs.pair_files import AnswerPair
from megatron_redone.scoring.agreement import describe, gate_failures, measure_agreement
from megatron_redone.scoring.judge import Comparison, Judge, Label, Verdict
from megatron_redone.scoring.judge_prompts import PROMPTS_HASH
from megatron_redone.tasks.base import Row

AGREEMENT = "agreement.json"
BATCH = 32
"""Comparisons between two writes to disk."""


def judge_identity(config: JudgeConfig, model_hash: str | None, seed: int) -> dict[str, Any]:
    """All that decides a judge's verdicts; where its server stands and how it is asked for speed does not.

    Args:
        model_hash: of the folder of a local judge's model.
        seed: of the stage; it counts where a local judge samples.
    """
    known: dict[str, Any] = {"kind": config.kind, "min_margin": config.min_margin}
    if config.kind in ("server", "model"):
        known |= {"mode": config.mode, "language": config.language, "prompts": PROMPTS_HASH}
    if config.server is not None:
        known |= config.server.model_dump(include={"model", "temperature", "max_tokens"})
    if config.kind == "model":
        generation = config.generation
        known |= generation.model_dump(exclude={"engine", "max_sequences"})
        known |= {"seed": seed} if generation.temperature > 0 else {}
    if config.kind == "likelihood":
        known["max_tokens"] = config.max_tokens
    return known | ({"model_sha256": model_hash} if model_hash is not None else {})


def verdicts_of(
    judge: Judge,
    comparisons: Iterable[Comparison],
    append: Callable[[list[dict[str, Any]]], None],
    between: Callable[[int], None],
    batch_size: int = BATCH,
) -> None:
    """Judges comparisons batch by batch.

    Args:
        append: writes the verdicts of a batch; on one rank only.
        between: called after each batch with the number of pairs in it; may raise to stop the stage.
    """
    left = iter(comparisons)
    while batch := list(islice(left, batch_size)):
        verdicts = judge.compare(batch)
        append([verdict_json(item.id, verdict) for item, verdict in zip(batch, verdicts, strict=True)])
        between(len(batch))


def verdict_json(pair_id: str, verdict: Verdict) -> dict[str, Any]:
    """The line of a verdict."""
    return {"id": pair_id, "winner": verdict.winner, "readings": verdict.readings, "scores": verdict.scores}


def read_verdicts(progress: Iterable[Mapping[str, Any]]) -> dict[str, Verdict]:
    """The verdicts by the id of their pair."""
    return {
        value["id"]: Verdict(
            value["winner"],
            tuple(value["readings"]) if value["readings"] is not None else None,
            tuple(value["scores"]) if value["scores"] is not None else None,
        )
        for value in progress
    }


def choose_labelled(config: JudgeAgreementConfig, pairs: Sequence[AnswerPair], seed: int) -> list[AnswerPair]:
    """The labelled pairs that are judged: those short enough, as many as asked for, in an order drawn by the seed."""
    limit = config.max_characters
    short = [pair for pair in pairs if limit is None or num_characters(pair) <= limit]
    return sorted(short, key=lambda pair: derive_seed(seed, "labelled", pair.id))[: config.max_pairs]


def num_characters(pair: AnswerPair) -> int:
    """Of the prompt and the two answers."""
    return sum(len(m["content"]) for m in pair.messages) + len(pair.answer_a) + len(pair.answer_b)


def agreement_report(
    config: JudgeAgreementConfig,
    identity: Mapping[str, Any],
    pairs: Sequence[AnswerPair],
    verdicts: Mapping[str, Verdict],
    seed: int,
) -> dict[str, Any]:
    """What agreement.json says: the judge, whether it passed, why not, and the figures, in all and by language."""
    labels: list[Label] = [pair.label for pair in pairs if pair.label is not None]
    found = [verdicts[pair.id] for pair in pairs]
    agreement = measure_agreement(labels, found, config.gate, seed)
    failures = gate_failures(agreement, labels, config.gate)
    by_language = {}
    for language in sorted({pair.language for pair in pairs}):
        places = [place for place, pair in enumerate(pairs) if pair.language == language]
        part = measure_agreement([labels[i] for i in places], [found[i] for i in places], config.gate, seed)
        by_language[language] = part.to_json()
    return {
        "judge": dict(identity),
        "passed": not failures,
        "failures": failures,
        "figures": agreement.to_json(),
        "summary": describe(agreement),
        "by_language": by_language,
        "gate": config.gate.model_dump(),
    }


def passed_agreement(path: Path, identity: Mapping[str, Any]) -> dict[str, Any]:
    """The agreement of a judge, which it must have passed, and which must be of this judge.

    Raises:
        DataError: no such artefact.
        InputError: it is of another judge, or the judge failed; the message has the figures.
    """
    file = path / AGREEMENT if path.is_dir() else path
    if not file.is_file():
        raise DataError(f"{file}: no such file; make it by `redone curate judge-agreement`")
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        judge, passed = dict(found["judge"]), bool(found["passed"])
        failures, summary = list(found["failures"]), str(found["summary"])
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{file}: not what `redone curate judge-agreement` writes ({error!r}); make it again"
        ) from error
    differing = sorted(k for k in judge.keys() | identity.keys() if judge.get(k) != identity.get(k))
    if differing:
        shown = ", ".join(f"{key}: {judge.get(key)!r} there, {identity.get(key)!r} here" for key in differing)
        raise InputError(f"{file}: measured with another judge ({shown}); measure the agreement of this one")
    if not passed:
        raise InputError(
            f"{file}: the judge did not pass and must not label ({summary}): " + "; ".join(failures) + "; take a "
            "better judge, or lower the gate on purpose"
        )
    return dict(found)


def judged_pairs(
    pairs: Iterable[AnswerPair],
    verdicts: Mapping[str, Verdict],
    agreement: Mapping[str, Any],
    rows: Mapping[str, Row],
) -> Iterator[Pair]:
    """The pairs that the judge decides; ties make none."""
    figures = {key: agreement["figures"][key] for key in ("accuracy", "accuracy_interval", "kappa", "kappa_interval")}
    for pair in pairs:
        verdict = verdicts[pair.id]
        if verdict.winner == "tie":
            continue
        row = rows.get(pair.row)
        yield _decided(
            pair,
            verdict.winner,
            verdict.scores or (None, None),
            "judge",
            {"winner": verdict.winner, "judge": dict(agreement["judge"]), "agreement": figures},
            row if row is not None and row.task == pair.task else None,
        )


def given_pair(pair: AnswerPair) -> Pair | None:
    """A labelled pair as it is; None for a tie."""
    if pair.label not in ("a", "b"):
        return None
    return _decided(pair, pair.label, (pair.score_a, pair.score_b), "given", {"id": pair.id})


def _decided(
    pair: AnswerPair,
    winner: str,
    scores: tuple[float | None, float | None],
    how: How,
    detail: Mapping[str, Any],
    origin: Row | None = None,
) -> Pair:
    """The winner's answer over the other's."""
    chosen, rejected = (0, 1) if winner == "a" else (1, 0)
    answers = (pair.answer_a, pair.answer_b)
    return Pair(
        messages=pair.messages,
        chosen=answers[chosen],
        rejected=answers[rejected],
        how=how,
        source=pair.source,
        row=pair.row,
        task=pair.task,
        language=pair.language,
        chosen_reward=scores[chosen],
        rejected_reward=scores[rejected],
        detail=detail,
        origin=origin,
    )
