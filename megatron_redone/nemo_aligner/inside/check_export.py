"""Reads an export with NeMo-Aligner's and NeMo's own code, on CPU, and tells what was read.

Runs in NeMo-Aligner's environment, see `start.py`. What is not theirs: the layer specification is Megatron-core's local
one, since Transformer Engine's needs CUDA (the keys of its parameters in a checkpoint are the same), and settings of
kernels that need CUDA are switched off in `ON_CPU`.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator, Mapping
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch
from megatron.core.dist_checkpointing import load
from megatron.core.dist_checkpointing.mapping import ShardedObject
from megatron.core.dist_checkpointing.validation import StrictHandling
from megatron.core.models.gpt import GPTModel
from megatron.core.models.gpt.gpt_layer_specs import get_gpt_layer_local_spec
from nemo.collections.nlp.models.language_modeling.megatron_gpt_model import MegatronGPTModel
from nemo.collections.nlp.modules.common.tokenizer_utils import get_nmt_tokenizer
from nemo_aligner.data.nlp.builders import build_train_valid_test_dpo_datasets
from nemo_aligner.utils.utils import load_and_override_model_config
from omegaconf import DictConfig, OmegaConf

from megatron_redone.nemo_aligner.inside.one_process import one_process
from megatron_redone.nemo_aligner.inside.remote_connection import Connection
from megatron_redone.nemo_aligner.wire import send

ON_CPU = {
    "persist_layer_norm": False,
    "masked_softmax_fusion": False,
    "use_cpu_initialization": True,
    "tensor_model_parallel_size": 1,
    "pipeline_model_parallel_size": 1,
    "context_parallel_size": 1,
    "sequence_parallel": False,
    "megatron_amp_O2": False,
    "activations_checkpoint_granularity": None,
    "activations_checkpoint_method": None,
    "activations_checkpoint_num_layers": None,
}


def check(order: Mapping[str, Any], connection: Connection) -> None:
    """Sends every pair as the data set gives it, then the loaded parameters, then log-probabilities of some pairs."""
    one_process()
    whole = OmegaConf.load(os.path.join(order["folder"], "gpt_dpo.yaml"))
    cfg = _moved(whole, order["mount"], order["folder"])
    merged = load_and_override_model_config(cfg.pretrained_checkpoint.restore_from_path, cfg.model)
    cfg.model = _moved(merged, order["mount"], order["folder"])
    shown = []
    for number, item in _pairs(cfg.model):
        arrays = {name: item[name].numpy() for name in ("chosen", "rejected", "chosen_labels", "rejected_labels")}
        arrays |= {name: torch.tensor(item[name]).numpy() for name in ("chosen_length", "rejected_length")}
        send(connection.writing, "pair", {"id": item["id"]}, arrays)
        if number < order["max_pairs"]:
            shown.append(item)
    model, num_parameters = _load(cfg)
    connection.tell("loaded", parameters=num_parameters)
    for item in shown:
        sides = {side: _logprobs(model, item[side], item[f"{side}_labels"]).numpy() for side in ("chosen", "rejected")}
        send(connection.writing, "logprobs", {"id": item["id"]}, sides)
    connection.tell("checked")


def _moved(cfg: DictConfig, mount: str, folder: str) -> DictConfig:
    """The configuration with the container's paths as they are here."""

    def moved(tree: Any) -> Any:
        if isinstance(tree, dict):
            return {name: moved(value) for name, value in tree.items()}
        if isinstance(tree, list):
            return [moved(value) for value in tree]
        return folder + tree[len(mount) :] if isinstance(tree, str) and tree.startswith(f"{mount}/") else tree

    return OmegaConf.create(moved(OmegaConf.to_container(cfg, resolve=True)))


def _pairs(cfg: DictConfig) -> Iterator[tuple[int, dict[str, Any]]]:
    """The training pairs by NeMo-Aligner's data set, built as its program builds it, with their ids."""
    tokenizer = get_nmt_tokenizer(
        library=cfg.tokenizer.library, model_name=cfg.tokenizer.type, use_fast=cfg.tokenizer.use_fast
    )
    data, _, _ = build_train_valid_test_dpo_datasets(
        cfg=cfg,
        data_prefix=cfg.data.data_prefix,
        data_impl=cfg.data.data_impl,
        splits_string=cfg.data.splits_string,
        train_valid_test_num_samples=[-cfg.global_batch_size] * 3,
        seq_length=cfg.data.seq_length,
        seed=cfg.seed,
        tokenizer=tokenizer,
    )
    for number in range(len(data)):
        item = data[number]
        if item["ignore_example"]:
            raise ValueError(f"pair {number} of {cfg.data.data_prefix.train} is longer than model.data.seq_length")
        yield number, {**item, "id": data.data[number]["id"]}


class _SettingsOnly(MegatronGPTModel):
    """NeMo's model class as far as it reads settings; its constructor asks for CUDA."""

    def __init__(self, cfg: DictConfig) -> None:
        torch.nn.Module.__init__(self)
        self._cfg = cfg
        self.torch_dtype = self.params_dtype = self.autocast_dtype = torch.float32
        self.megatron_timers = None

    @property
    def trainer(self) -> Any:
        return SimpleNamespace(precision="32")


def _load(cfg: DictConfig) -> tuple[GPTModel, int]:
    """The model that NeMo's settings describe, with the weights that NeMo's reader finds; how many they are.

    Raises:
        Exception: of Megatron-core, where a key is missing, unexpected or of another shape.
    """
    folder, cfg = cfg.pretrained_checkpoint.restore_from_path, OmegaConf.merge(cfg.model, ON_CPU)
    config = _SettingsOnly(cfg).build_transformer_config()
    model = GPTModel(
        config=config,
        transformer_layer_spec=get_gpt_layer_local_spec(),
        vocab_size=cfg.override_vocab_size,
        max_sequence_length=cfg.encoder_seq_length,
        share_embeddings_and_output_weights=cfg.share_embeddings_and_output_weights,
        position_embedding_type=cfg.position_embedding_type,
        rotary_percent=cfg.rotary_percentage,
        rotary_base=cfg.rotary_base,
    )
    wanted = model.sharded_state_dict(prefix="model.")
    own = {name for name, value in wanted.items() if isinstance(value, ShardedObject)}
    if not all(name.endswith("_extra_state") for name in own):
        raise ValueError(f"the model keeps more than tensors: {sorted(own)}")
    tensors = {name: value for name, value in wanted.items() if name not in own}
    # What NeMo's DistributedCheckpointIO calls; that class asks for tensorstore, which only its old format needs.
    found = load({"state_dict": tensors}, os.path.join(folder, "model_weights"), strict=StrictHandling.RAISE_ALL)
    result = model.load_state_dict(
        {name[len("model.") :]: value for name, value in found["state_dict"].items()}, strict=False
    )
    missing = [name for name in result.missing_keys if not name.endswith("_extra_state")]
    if missing or result.unexpected_keys:
        raise ValueError(f"missing {missing}, unexpected {result.unexpected_keys}")
    for layer in model.decoder.layers:  # so that the dropout, which is off, asks for no random state of CUDA
        attention = layer.self_attention.core_attention
        attention.config = copy.copy(attention.config)
        attention.config.sequence_parallel = True
    return model.eval(), sum(parameter.numel() for parameter in model.parameters())


@torch.no_grad()
def _logprobs(model: GPTModel, tokens: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """[T] of the labels; 0 where there is none."""
    length = len(tokens)
    hidden = torch.triu(torch.ones(1, 1, length, length, dtype=torch.bool), diagonal=1)
    # Rotary embedding moves its table to the current CUDA device, whatever the model is on.
    with patch.object(torch.cuda, "current_device", lambda: torch.device("cpu")):
        logits = model(tokens[None], torch.arange(length)[None], hidden)[0].float()
    values = logits.log_softmax(-1).gather(-1, labels.clamp(min=0)[:, None]).squeeze(-1)
    return torch.where(labels >= 0, values, 0.0)
