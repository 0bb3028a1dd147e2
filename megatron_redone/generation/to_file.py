"""Completions of a file of prompts into a file, chunk by chunk: an interrupted run goes on where it stopped.

A line of prompts is `{"id": ..., "prompt": text}` (a user's turn), `{"id": ..., "messages": [...]}`, or a task row.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from megatron_redone.common.errors import DataError, InputError
from megatron_redone.common.files import atomic_write_json, sha256_file
from megatron_redone.common.jsonl import read_jsonl_lenient, write_jsonl
from megatron_redone.common.logging import Progress
from megatron_redone.common.progress_file import ProgressFile
from megatron_redone.data.chat_template import ChatTemplate
from megatron_redone.data.conversation import Message, check_turns, check_unicode, parse_messages
from megatron_redone.generation.base import Completion, GenerationEngine, SamplingParams
from megatron_redone.generation.config import GenerationConfig
from megatron_redone.generation.prompts import fit_prompt
from megatron_redone.tasks.catalogue import get_task
from megatron_redone.tasks.row import Row
from megatron_redone.version import __version__

HEADER = "settings of this file"
"""Id of the first line of an unfinished output."""
MAX_PROBLEMS_SHOWN = 8


@dataclass(frozen=True)
class Asked:
    """One line of prompts."""

    id: str
    messages: Sequence[Message]


@dataclass(frozen=True)
class OutputOptions:
    """What is written of a completion beside its text."""

    logprobs: bool = False
    token_ids: bool = False


def read_prompts(path: Path) -> list[Asked]:
    """The conversations of a file, each to be continued by an answer.

    Raises:
        DataError: no such file, an empty one, or lines that cannot be used: the first of them with their reasons.
    """
    asked: list[Asked] = []
    problems: list[str] = []
    seen: set[str] = set()
    for number, value, problem in read_jsonl_lenient(path):
        where = f"{path}:{number}"
        try:
            if value is None:
                raise DataError(problem or where)
            one = Asked(_id(value, where, seen), _messages(value, where))
        except DataError as error:
            problems.append(str(error))
            continue
        seen.add(one.id)
        asked.append(one)
    if problems:
        shown = "\n".join(f"  {line}" for line in problems[:MAX_PROBLEMS_SHOWN])
        raise DataError(
            f"{path}: {len(problems)} of {len(problems) + len(asked)} lines cannot be used; mend or remove them:\n"
            + shown
        )
    if not asked:
        raise DataError(f"{path}: no line in it; give prompts as JSON lines")
    return asked


def _id(value: Mapping[str, Any], where: str, seen: set[str]) -> str:
    name = value.get("id")
    if isinstance(name, bool) or not isinstance(name, (str, int)) or name == "":
        raise DataError(f"{where}: id={name!r}; every line needs an id, a text or a whole number")
    check_unicode(str(name), f"{where}: id")
    if str(name) in seen or str(name) == HEADER:
        raise DataError(f"{where}: id {name!r} occurs twice; ids name the lines of the output")
    return str(name)


def _messages(value: Mapping[str, Any], where: str) -> Sequence[Message]:
    if "task" in value:
        row = Row.from_json(value, where)
        try:
            problems = get_task(row.task).validate(row)
        except InputError as error:
            problems = [str(error)]
        if problems:
            raise DataError(f"{where}: " + "; ".join(problems))
        return get_task(row.task).render(row)
    if "messages" in value:
        messages = parse_messages(value["messages"], where)
        check_turns(messages, where, last="user")
        return messages
    prompt = value.get("prompt")
    if not isinstance(prompt, str) or not prompt.strip():
        raise DataError(f"{where}: neither a text under `prompt`, nor `messages`, nor a task row")
    check_unicode(prompt, f"{where}: prompt")
    return [{"role": "user", "content": prompt}]


def generate_to_file(
    asked: Sequence[Asked],
    engine: Callable[[], GenerationEngine],
    template: ChatTemplate,
    config: GenerationConfig,
    out: Path,
    identity: Mapping[str, Any],
    *,
    num_samples: int,
    seed: int,
    options: OutputOptions,
    chunk: int,
    check_stop: Callable[[], None] = lambda: None,
) -> dict[str, int]:
    """Answers the prompts and writes `out`, a line each in their order; counts.

    A sample depends on seed, id and its number alone, not on chunks, interruptions or the prompts beside it.

    Args:
        engine: makes the engine when there is something to do.
        identity: what decides the answers (model, prompts, settings); an unfinished output of others is refused.
        check_stop: called between chunks; raises to end the run, which can go on later.
    """
    work = out.with_name(f"{out.name}.partial")
    header = {"id": HEADER, "identity": dict(identity)}
    file = ProgressFile(work)
    _check_header(file, header, work)
    left = [one for one in asked if one.id not in file.done]
    if left:
        generator = engine()
        try:
            with Progress(out.name, len(asked), "prompts") as progress:
                progress.start_at(len(asked) - len(left))
                for start in range(0, len(left), chunk):
                    check_stop()
                    part = left[start : start + chunk]
                    file.append(_answers(part, generator, template, config, num_samples, seed, options))
                    progress.advance(len(part))
        finally:
            generator.close()
    return _finish(asked, file, out, work, identity)


def _check_header(file: ProgressFile, header: Mapping[str, Any], work: Path) -> None:
    if not file.done:
        file.append([header])
        return
    found = next(iter(file))
    if found != json.loads(json.dumps(header)):
        was, now = found.get("identity", {}), header["identity"]
        changed = [name for name in now if was.get(name) != now[name]]
        raise InputError(
            f"{work}: an unfinished output of other settings ({', '.join(changed) or 'unknown'} differ); remove it, or "
            "run with the settings it was begun with"
        )


def _answers(
    asked: Sequence[Asked],
    generator: GenerationEngine,
    template: ChatTemplate,
    config: GenerationConfig,
    num_samples: int,
    seed: int,
    options: OutputOptions,
) -> list[dict[str, Any]]:
    whole = [template.prompt_ids(one.messages) for one in asked]
    prompts = {place: fitted for place, prompt in enumerate(whole) if (fitted := fit_prompt(prompt, config))}
    params = SamplingParams.of(config, template.stop_ids, num_samples=num_samples, seed=seed)
    keys = [asked[place].id for place in prompts]
    found = generator.generate(list(prompts.values()), params, keys) if prompts else []
    completions = dict(zip(prompts, found, strict=True))
    return [
        {"id": one.id, **_line(completions.get(place), len(whole[place]), template, options)}
        for place, one in enumerate(asked)
    ]


def _line(
    samples: Sequence[Completion] | None, prompt_tokens: int, template: ChatTemplate, options: OutputOptions
) -> dict[str, Any]:
    """Texts without the end token, and what else is asked for; no outputs for a prompt over the limit (`drop`)."""
    line: dict[str, Any] = {"prompt_tokens": prompt_tokens}
    if samples is None:
        return {**line, "outputs": [], "over_long": True}
    line["outputs"] = [_text(one, template) for one in samples]
    line["finish_reasons"] = [one.finish_reason for one in samples]
    line["num_tokens"] = [len(one.token_ids) for one in samples]
    if options.token_ids:
        line["token_ids"] = [list(one.token_ids) for one in samples]
    if options.logprobs:
        line["logprobs"] = [[round(value, 6) for value in one.logprobs] for one in samples]
    return line


def _text(completion: Completion, template: ChatTemplate) -> str:
    ids = completion.token_ids
    return template.tokenizer.decode(ids[:-1] if completion.finish_reason == "stop" else ids)


def _finish(
    asked: Sequence[Asked], file: ProgressFile, out: Path, work: Path, identity: Mapping[str, Any]
) -> dict[str, int]:
    """The lines in the order of the prompts, as the final file, and its manifest."""
    lines = {str(line["id"]): line for line in file if line["id"] != HEADER}
    counts = {
        "prompts": len(asked),
        "outputs": sum(len(line["outputs"]) for line in lines.values()),
        "tokens": sum(sum(line.get("num_tokens", ())) for line in lines.values()),
        "over_long": sum("over_long" in line for line in lines.values()),
    }
    manifest_of(out).unlink(missing_ok=True)
    write_jsonl(out, (lines[one.id] for one in asked))
    manifest = {"identity": dict(identity), "counts": counts, "sha256": sha256_file(out), "version": __version__}
    atomic_write_json(manifest_of(out), manifest)
    os.unlink(work)
    return counts


def manifest_of(out: Path) -> Path:
    """Where the settings and counts of an output stand."""
    return out.with_name(f"{out.name}.manifest.json")


def is_done(out: Path, identity: Mapping[str, Any]) -> bool:
    """Whether `out` is whole and of this identity.

    Raises:
        InputError: there is an output of other settings, or one that was changed since.
    """
    if not out.is_file():
        return False
    try:
        found = json.loads(manifest_of(out).read_text(encoding="utf-8"))
        same = found["identity"] == json.loads(json.dumps(identity)) and found["sha256"] == sha256_file(out)
    except (OSError, ValueError, KeyError, TypeError):
        same = False
    if not same:
        raise InputError(
            f"{out}: there already, of other settings or prompts, or changed since; give another --out, or --again to "
            "replace it"
        )
    return True


def prompts_identity(path: Path) -> str:
    """Hash of a file of prompts."""
    return sha256_file(path)


def model_identity(folder: Path) -> str:
    """What tells one model folder from another without reading all of it: its small files, and names, sizes and times
    of the others."""
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        stat = path.stat()
        digest.update(f"{path.relative_to(folder)}\0{stat.st_size}\0".encode())
        digest.update(sha256_file(path).encode() if stat.st_size < 1 << 20 else str(stat.st_mtime_ns).encode())
    return digest.hexdigest()
