"""A stage `dpo` as a folder that NeMo-Aligner's own program runs in NeMo's container.

    gpt_dpo.yaml          its configuration, complete
    checkpoint/           model_config.yaml and model_weights/ (Megatron torch_dist): a NeMo checkpoint as a folder
    tokenizer/            Hugging Face files whose end token is the chat template's
    data/                 the pairs, prompts in the chat template
    train.sh submit.sbatch
    export.json           settings, counts, hashes

Weights are converted tensor by tensor (`conversion.to_megatron`); NeMo's keys are Megatron's with `model.` before them.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from megatron_redone.checkpoint.hf_config import COMPANION_FOLDER
from megatron_redone.checkpoint.manifest import MANIFEST
from megatron_redone.checkpoint.torch_dist import TorchDistFolder, write_metadata
from megatron_redone.common.errors import DataError, InputError
from megatron_redone.common.files import atomic_write_json, atomic_write_text, sha256_file
from megatron_redone.common.jsonl import write_jsonl
from megatron_redone.conversion.to_megatron import ToMegatron
from megatron_redone.data.chat_template import ChatTemplate
from megatron_redone.data.huggingface_tokenizer import HuggingFaceTokenizer
from megatron_redone.data.tokenizer import Tokenizer
from megatron_redone.data.tokenizer_files import CONFIG_FILE, HUGGINGFACE_FILE, read_config
from megatron_redone.models.config import ModelShape
from megatron_redone.nemo_aligner.model_config import model_config
from megatron_redone.nemo_aligner.train import PairTexts, prompt_length
from megatron_redone.parallel.config import ParallelConfig
from megatron_redone.training.preference_pairs import PairSet

MODEL_CONFIG, WEIGHTS, PREFIX = "model_config.yaml", "model_weights", "model."


def write_checkpoint(
    model: Path, shape: ModelShape, parallel: ParallelConfig, folder: Path, mount: str, max_length: int, seed: int
) -> None:
    """Writes the model as a NeMo checkpoint folder, its files cut for the layout (any layout loads them).

    Args:
        model: Hugging Face model folder.
        max_length, mount, seed: see `model_config`.
    Raises:
        InputError: a Megatron checkpoint. CheckpointError: see `ToMegatron`.
    """
    if (model / MANIFEST).is_file():
        raise InputError(f"{model} is a Megatron checkpoint; `redone convert to-hf` makes the model folder to export")
    converted = folder.with_name(f".{folder.name}.megatron")
    cut = ParallelConfig(tp=parallel.tp, pp=parallel.pp)
    ToMegatron(model, converted, cut, "bf16" if parallel.precision == "bf16" else "fp32").run()
    weights = folder / WEIGHTS
    weights.mkdir(parents=True)
    parts = [replace(part, key=PREFIX + key) for key, some in TorchDistFolder(converted).parts.items() for part in some]
    for name in sorted({part.file for part in parts}):
        (converted / name).rename(weights / name)
    write_metadata(weights, parts)
    shutil.rmtree(converted)
    write_yaml(folder / MODEL_CONFIG, model_config(shape, parallel, mount, max_length, seed))


def write_tokenizer(tokenizer: Tokenizer, template: ChatTemplate, folder: Path) -> None:
    """Writes the tokenizer as transformers reads it, ending sequences with the chat template's end token.

    Its settings are reduced to those that decide ids, so that no version of transformers reads them otherwise.

    Raises:
        InputError: a SentencePiece tokenizer of ours, whose special tokens NeMo would not find in a text.
    """
    if not isinstance(tokenizer, HuggingFaceTokenizer):
        raise InputError(
            "the model's tokenizer is a SentencePiece file, in which NeMo does not find the chat template's special "
            f"tokens; export a model that has a {HUGGINGFACE_FILE}"
        )
    folder.mkdir(parents=True)
    tokenizer.save(folder)
    kept = {
        name: value
        for name, value in read_config(folder).items()
        if name in ("added_tokens_decoder", "bos_token", "unk_token", "pad_token", "model_max_length", "chat_template")
    }
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False}
    atomic_write_json(folder / CONFIG_FILE, {**kept, **settings, "eos_token": template.end_token})


def write_pairs(pairs: PairSet, path: Path) -> list[str]:
    """Writes the pairs as its data set reads them; the ids of those that it would read as other tokens.

    It tokenises prompt and answer as one text, so a tokenizer may merge characters over their border, and a prompt
    whose first tokens were cut off may begin within a character. Such pairs are left out.

    Raises:
        DataError: no pair is left.
    """
    left_out: list[str] = []

    def lines() -> Iterator[dict[str, Any]]:
        for place, line in enumerate(PairTexts(pairs).lines()):
            if _reads_alike(pairs, place, line):
                yield line
            else:
                left_out.append(pairs.ids[place])

    path.parent.mkdir(parents=True, exist_ok=True)
    write_jsonl(path, lines())
    if len(left_out) == len(pairs):
        raise DataError(
            f"NeMo-Aligner would read all {len(pairs)} pairs as other tokens than ours: the tokenizer merges the "
            "border of prompt and answer; use a chat template whose generation prompt ends with a line break"
        )
    return left_out


def _reads_alike(pairs: PairSet, place: int, line: Mapping[str, Any]) -> bool:
    for document, side in zip(pairs.documents(place), ("chosen_response", "rejected_response"), strict=True):
        cut = prompt_length(document)
        whole, ids = line["prompt"] + line[side], list(document.token_ids)
        if list(pairs.template.templated_ids(line["prompt"])) != ids[:cut]:
            return False
        if list(pairs.template.templated_ids(whole)) != ids[:-1]:
            return False
    return True


def write_yaml(path: Path, tree: Mapping[str, Any]) -> None:
    """A YAML file, keys in the order given."""
    atomic_write_text(path, yaml.safe_dump(dict(tree), sort_keys=False, allow_unicode=True, default_flow_style=False))


def write_record(folder: Path, settings: Mapping[str, Any], counts: Mapping[str, Any]) -> None:
    """`export.json`: what went in, and the SHA-256 of every file."""
    files = {
        str(path.relative_to(folder)): sha256_file(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and COMPANION_FOLDER not in path.parts
    }
    record = {"kind": "NeMo-Aligner export", "settings": dict(settings), "counts": dict(counts), "files": files}
    atomic_write_json(folder / "export.json", json.loads(json.dumps(record, default=str)))
