"""Answers of a model to the rows of a benchmark, written as they come, so that a stopped run goes on.

`predictions.jsonl` grows by one batch at a time (flushed to disk); `answering.json` beside it says under which model,
prompts and settings. A rerun with the same settings answers what is missing; with others it is refused.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from megatron_redone.checkpoint.manifest import MANIFEST
from megatron_redone.common.errors import InputError
from megatron_redone.common.files import atomic_write_bytes, atomic_write_json, disk_full_reported, sha256_file
from megatron_redone.common.logging import Progress
from megatron_redone.data.chat_template import ChatTemplate
from megatron_redone.data.conversation import THINK_CLOSE, THINK_OPEN
from megatron_redone.evaluation.benchmark import Benchmark, BenchmarkTask, Prompt, Row
from megatron_redone.evaluation.predictions_file import read_predictions
from megatron_redone.evaluation.prompt_set import conversation
from megatron_redone.evaluation.results import PREDICTIONS
from megatron_redone.generation.base import Completion, SamplingParams
from megatron_redone.generation.open_model import OpenModel
from megatron_redone.tasks.base import answer_after_thought

ANSWERING = "answering.json"


@dataclass(frozen=True)
class AnswerSettings:
    """How answers are drawn.

    Attributes:
        max_new_tokens: room for every answer; None gives each task what it needs.
        max_prompt_tokens: longer prompts keep their last tokens; None gives what the model holds beside an answer.
    """

    batch_size: int
    max_new_tokens: int | None
    max_prompt_tokens: int | None
    temperature: float
    top_p: float
    seed: int
    precision: str = "fp32"

    def room(self, task: BenchmarkTask) -> int:
        """Tokens for an answer of the task."""
        return self.max_new_tokens or task.max_new_tokens


def identity(
    model: Path, engine: str, prompts: Mapping[str, Prompt], data: Mapping[str, Path], settings: AnswerSettings
) -> dict[str, Any]:
    """What answers depend on: a run that differs in any of it must not go on in the same folder.

    Weights are told apart by the names, sizes and times of their files; of a Megatron checkpoint by its manifest.
    """
    fixed = asdict(settings)
    del fixed["batch_size"]  # draws do not depend on what is answered together
    return {
        "model": str(model.resolve()),
        "weights": weights_identity(model),
        "engine": engine,
        "prompts": {file: prompt.sha256 for file, prompt in prompts.items()},
        "data": {file: sha256_file(path) for file, path in data.items()},
        "settings": fixed,
    }


def answer_rows(
    folder: Path,
    model: OpenModel,
    benchmark: Benchmark,
    prompts: Mapping[str, Prompt],
    rows: Mapping[str, Sequence[Row]],
    sizes: Mapping[str, int | None],
    settings: AnswerSettings,
) -> dict[str, Any]:
    """Answers what `predictions.jsonl` in the folder lacks and appends it; returns counts for the settings.

    Args:
        prompts: by file, all of `rows`.
        rows: by file the rows to answer.
        sizes: as `read_predictions` takes them.
    """
    path = folder / PREDICTIONS
    there = _go_on(path, sizes)
    template = ChatTemplate(model.tokenizer)
    asker = _Asker(model, template, settings)
    num_rows = sum(map(len, rows.values()))
    with Progress(benchmark.name, num_rows, "rows") as progress, path.open("a", encoding="utf-8") as file:
        progress.start_at(sum(index in there.get(name, {}) for name in rows for index in range(len(rows[name]))))
        for name, of_file in rows.items():
            open_rows = [index for index in range(len(of_file)) if index not in there.get(name, {})]
            for start in range(0, len(open_rows), settings.batch_size):
                batch = open_rows[start : start + settings.batch_size]
                lines = asker.ask(benchmark.tasks[name], prompts[name], of_file, batch)
                with disk_full_reported(path):
                    file.write("".join(json.dumps(line) + "\n" for line in lines))
                    file.flush()
                    os.fsync(file.fileno())
                progress.advance(len(batch))
    return _counts(path, rows)


def begin(folder: Path, fixed: Mapping[str, Any]) -> None:
    """Notes what the answers of this folder depend on, or checks that it is what stands there.

    Raises:
        InputError: the folder holds answers of another model or under other settings.
    """
    noted, path = folder / ANSWERING, folder / PREDICTIONS
    if not path.is_file() or not path.stat().st_size:
        atomic_write_json(noted, dict(fixed))
        return
    before = json.loads(noted.read_text(encoding="utf-8")) if noted.is_file() else {}
    now = json.loads(json.dumps(fixed))
    differing = sorted(name for name in {*before, *now} if not _agree(name, before.get(name), now.get(name)))
    if differing:
        raise InputError(
            f"{path} holds answers that differ in {', '.join(differing)}; give another --out, or remove the file"
        )
    atomic_write_json(noted, {**now, **{name: {**before[name], **now[name]} for name in ("prompts", "data")}})


def _agree(name: str, before: Any, now: Any) -> bool:
    """Whether both say the same; of files, only those that both have."""
    if name in ("prompts", "data") and isinstance(before, dict):
        return all(before[file] == now[file] for file in now if file in before)
    return bool(before == now)


def _go_on(path: Path, sizes: Mapping[str, int | None]) -> Mapping[str, Mapping[int, str]]:
    """The answers that stand in the file, after a last line that was cut off by a stop is taken away."""
    if not path.is_file() or not path.stat().st_size:
        return {}
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if whole != content:
        atomic_write_bytes(path, whole)
    return read_predictions(path, sizes, may_be_empty=True).outputs if whole else {}


def _counts(path: Path, rows: Mapping[str, Sequence[Row]]) -> dict[str, Any]:
    """Over-long prompts, answers that ran out of room and open thoughts, of the rows that are scored."""
    counts = dict.fromkeys(("prompts_cut", "answers_out_of_room", "thoughts_removed", "thoughts_left_open"), 0)
    with path.open(encoding="utf-8") as file:
        for line in file:
            row = json.loads(line)
            if row["index"] < len(rows.get(row["file"], ())):
                for name in counts:
                    counts[name] += bool(row[name])
    return counts


class _Asker:
    """Prompts of a batch to the model, and what it says as lines of predictions.jsonl."""

    def __init__(self, model: OpenModel, template: ChatTemplate, settings: AnswerSettings) -> None:
        self.model, self.template, self.settings = model, template, settings

    def ask(
        self, task: BenchmarkTask, prompt: Prompt, rows: Sequence[Row], batch: Sequence[int]
    ) -> list[dict[str, Any]]:
        room = self.settings.room(task)
        longest = self.settings.max_prompt_tokens or max(self.model.max_positions - room, 1)
        whole = [self.template.prompt_ids(conversation(prompt, task, rows[index])) for index in batch]
        params = SamplingParams(
            room,
            self.settings.temperature,
            self.settings.top_p,
            stop_ids=self.template.stop_ids,
            seed=self.settings.seed,
        )
        keys = [f"{task.file} {index}" for index in batch]
        completions = self.model.engine.generate([ids[-longest:] for ids in whole], params, keys)
        return [
            {
                "file": task.file,
                "index": index,
                "prompts_cut": len(ids) > longest,
                "answers_out_of_room": samples[0].finish_reason == "length",
                **self._answer(samples[0]),
            }
            for index, ids, samples in zip(batch, whole, completions, strict=True)
        ]

    def _answer(self, completion: Completion) -> dict[str, Any]:
        """The text without end token and thought; `whole_output` where a thought was taken off."""
        ids = completion.token_ids
        ended = bool(ids) and ids[-1] in self.template.stop_ids
        text = self.template.tokenizer.decode(ids[:-1] if ended else ids)
        thought = THINK_OPEN in text or THINK_CLOSE in text
        answer = answer_after_thought(text) if thought else text
        whole = {"whole_output": text} if thought else {}
        flags = {"thoughts_removed": thought, "thoughts_left_open": answer is None}
        return {"output": answer or "", **flags, **whole}


def weights_identity(model: Path) -> str:
    """Hex digest that tells weights apart; see `identity`."""
    if (model / MANIFEST).is_file():
        return sha256_file(model / MANIFEST)
    files = sorted(path for path in model.iterdir() if path.is_file()) if model.is_dir() else []
    listed = [f"{path.name} {path.stat().st_size} {path.stat().st_mtime_ns}" for path in files]
    return hashlib.sha256("\n".join(listed).encode()).hexdigest()
