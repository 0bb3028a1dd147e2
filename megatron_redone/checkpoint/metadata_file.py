"""Reads the `.metadata` of a torch_dist checkpoint without trusting it.

The file is a pickle, and a pickle may call any function while it is read. Torch reads it without a question, so it is
read here first, by an unpickler that knows only the classes that such a file is made of. A checkpoint that passes names
nothing else, and torch may read it. Objects that a checkpoint keeps as pickles beside its tensors are refused too: ours
have none.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch
from torch.distributed.checkpoint.metadata import BytesStorageMetadata, Metadata

from megatron_redone.common.errors import CheckpointError

METADATA = ".metadata"
_PACKAGE = "torch.distributed.checkpoint"
ALLOWED = {
    (f"{_PACKAGE}.metadata", "Metadata"),
    (f"{_PACKAGE}.metadata", "MetadataIndex"),
    (f"{_PACKAGE}.metadata", "StorageMeta"),
    (f"{_PACKAGE}.metadata", "TensorStorageMetadata"),
    (f"{_PACKAGE}.metadata", "BytesStorageMetadata"),
    (f"{_PACKAGE}.metadata", "ChunkStorageMetadata"),
    (f"{_PACKAGE}.metadata", "TensorProperties"),
    (f"{_PACKAGE}.metadata", "_MEM_FORMAT_ENCODING"),
    (f"{_PACKAGE}.planner", "SavePlan"),
    (f"{_PACKAGE}.planner", "TensorWriteData"),
    (f"{_PACKAGE}.planner", "WriteItem"),
    (f"{_PACKAGE}.planner", "WriteItemType"),
    (f"{_PACKAGE}.filesystem", "_StorageInfo"),
    ("torch.serialization", "_get_layout"),
    ("torch", "Size"),
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        """A class of the list, or a data type of torch."""
        if (module, name) in ALLOWED or (module == "torch" and isinstance(getattr(torch, name, None), torch.dtype)):
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"it names {module}.{name}")


def check_metadata(folder: Path) -> Metadata:
    """The metadata of a checkpoint folder; nothing that the file names is run.

    Raises:
        CheckpointError: it names something else than the parts of a checkpoint, holds pickled objects, or is damaged.
    """
    path = folder / METADATA
    try:
        with path.open("rb") as file:
            metadata: Metadata = _Unpickler(file).load()
        entries = dict(metadata.state_dict_metadata)
    except Exception as error:
        raise CheckpointError(
            f"{path}: not the metadata of a checkpoint ({error}); nothing of it was run. Take a checkpoint of people "
            "you trust, or write it anew"
        ) from error
    pickled = [name for name, entry in entries.items() if isinstance(entry, BytesStorageMetadata)]
    if pickled:
        raise CheckpointError(
            f"{path}: {len(pickled)} entries are pickled objects ({pickled[0]}, ...); this library writes tensors only "
            "and reads nothing else"
        )
    return metadata
