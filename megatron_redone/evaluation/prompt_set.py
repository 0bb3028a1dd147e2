"""Prompts of a benchmark from a file of one's own, for example the authors'.

A YAML or JSON file: by file of the benchmark a text (the user's turn), or an object with `user` and perhaps `system`.

    Note-NER.json:
      system: You find entities.
      user: |
        Passage: {content}
        {question}

`{name}` stands for a field of the row. Other braces stand for themselves, as in JSON inside a prompt; a name in braces
that is no field of the file's rows is refused, and `{{name}}` writes it with its braces. Files that are not named keep
the built-in prompt.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from megatron_redone.common.errors import DataError
from megatron_redone.data.conversation import Message
from megatron_redone.evaluation.benchmark import Benchmark, BenchmarkTask, Prompt, Row

_FIELD = re.compile(r"\{\{([A-Za-z_]\w*)\}\}|\{([A-Za-z_]\w*)\}")


def read_prompt_set(path: Path, benchmark: Benchmark) -> dict[str, Prompt]:
    """The prompts of the file, by file of the benchmark.

    Raises:
        DataError: no such file, no YAML or JSON, or problems, all of them listed: files the benchmark does not have,
            keys other than `system` and `user`, fields that the rows do not have, a prompt without any field.
    """
    if not path.is_file():
        raise DataError(f"--prompt-set {path}: no such file")
    try:
        text = path.read_bytes().decode("utf-8-sig")
        value = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except (ValueError, yaml.YAMLError, RecursionError) as error:
        raise DataError(f"--prompt-set {path}: cannot be read ({' '.join(str(error).split())[:200]})") from error
    if not isinstance(value, dict) or not value:
        raise DataError(f"--prompt-set {path}: expected file names of {benchmark.name} with their prompts")
    problems: list[str] = []
    prompts = {}
    for file, given in value.items():
        task = benchmark.tasks.get(str(file))
        if task is None:
            problems.append(f"{file}: not of {benchmark.name}; it has {', '.join(benchmark.tasks)}")
            continue
        prompt, problem = _prompt(given, task)
        problems += [f"{file}: {problem}"] if problem else []
        prompts[task.file] = prompt
    if problems:
        listed = "\n  ".join(problems)
        raise DataError(f"--prompt-set {path} cannot be used:\n  {listed}")
    return prompts


def conversation(prompt: Prompt, task: BenchmarkTask, row: Row) -> list[Message]:
    """What a model is asked about a row."""
    values = {name: show(row) for name, show in task.prompt_fields.items()}
    turns: list[Message] = [{"role": "system", "content": _filled(prompt.system, values)}] if prompt.system else []
    return [*turns, {"role": "user", "content": _filled(prompt.user, values)}]


def _filled(template: str, values: Mapping[str, str]) -> str:
    return _FIELD.sub(lambda match: f"{{{match[1]}}}" if match[1] else values[match[2]], template)


def _prompt(given: Any, task: BenchmarkTask) -> tuple[Prompt, str]:
    parts = {"user": given} if isinstance(given, str) else given
    if not isinstance(parts, dict) or not all(isinstance(part, str) for part in parts.values()):
        return Prompt("", ""), "expected a text, or an object with texts `system` and `user`"
    if unknown := sorted(str(key) for key in set(parts) - {"system", "user"}):
        return Prompt("", ""), f"unknown key {', '.join(unknown)}; a prompt has system and user"
    if "user" not in parts:
        return Prompt("", ""), "no `user`"
    prompt = Prompt(parts.get("system", ""), parts["user"])
    names = [match[2] for match in _FIELD.finditer(prompt.system + prompt.user) if match[2]]
    known = task.prompt_fields
    if unknown := sorted({name for name in names if name not in known}):
        shown = ", ".join(f"{{{name}}}" for name in unknown)
        return prompt, f"unknown field {shown}; rows have {', '.join(known)} (write {{{{name}}}} for braces that stay)"
    return prompt, "" if names else f"shows no field of the row; it has {', '.join(known)}"
