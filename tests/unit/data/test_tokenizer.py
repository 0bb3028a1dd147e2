from __future__ import annotations

import json
import shutil
import subprocess
import sys
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st

from megatron_redone.common.errors import DataError, InputError
from megatron_redone.data.tokenizer import (
    HuggingFaceTokenizer,
    SentencePieceTokenizer,
    Tokenizer,
    load_tokenizer,
    train_sentencepiece,
)
from tests.unit.data.conftest import make_corpus

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
SPELLED = st.lists(
    st.one_of(TEXTS, st.sampled_from(["<|im_end|>", "<|endoftext|>", "<think>", "</think>", "\u2581", "\n\n", "  "])),
    max_size=6,
).map("".join)
TRICKY = [
    "",
    " ",
    "  a  b ",
    "\u2581x\u2581",
    "\x00\t\r\n",
    "a\n\n b",
    "12345",
    "汉字😀",
    "<0x41>",
    "\ufdd0",
    "\u2585\u2047",
]


@settings(max_examples=150, deadline=None)
@given(text=SPELLED)
def test_sentencepiece_returns_every_text(sentencepiece_tokenizer: SentencePieceTokenizer, text: str) -> None:
    ids = sentencepiece_tokenizer.encode(text)
    assert sentencepiece_tokenizer.decode(ids) == text
    assert not set(ids) & set(sentencepiece_tokenizer.special_tokens.values())


@settings(max_examples=150, deadline=None)
@given(text=SPELLED)
def test_huggingface_returns_every_text(huggingface_tokenizer: HuggingFaceTokenizer, text: str) -> None:
    ids = huggingface_tokenizer.encode(text)
    assert huggingface_tokenizer.decode(ids) == text
    assert not set(ids) & set(huggingface_tokenizer.special_tokens.values())


@settings(max_examples=60)
@given(texts=st.lists(SPELLED, max_size=5))
def test_a_batch_is_encoded_as_its_texts_are(
    sentencepiece_tokenizer: SentencePieceTokenizer, huggingface_tokenizer: HuggingFaceTokenizer, texts: list[str]
) -> None:
    for tokenizer in (sentencepiece_tokenizer, huggingface_tokenizer):
        found = tokenizer.encode_batch([*texts, *TRICKY])
        assert found == [tokenizer.encode(text) for text in [*texts, *TRICKY]]
        assert all(type(i) is int for ids in found for i in ids)


def test_half_a_surrogate_pair_in_a_batch_is_named(
    sentencepiece_tokenizer: SentencePieceTokenizer, huggingface_tokenizer: HuggingFaceTokenizer
) -> None:
    for tokenizer in (sentencepiece_tokenizer, huggingface_tokenizer):
        with pytest.raises(DataError, match=r"text 1 of the batch: half of a surrogate pair"):
            tokenizer.encode_batch(["good", "bad \ud83d"])


@pytest.mark.parametrize("text", TRICKY)
def test_tricky_texts_return(
    sentencepiece_tokenizer: SentencePieceTokenizer, huggingface_tokenizer: HuggingFaceTokenizer, text: str
) -> None:
    for tokenizer in (sentencepiece_tokenizer, huggingface_tokenizer):
        assert tokenizer.decode(tokenizer.encode(text)) == text


@pytest.mark.parametrize("name", ["sentencepiece_tokenizer", "huggingface_tokenizer"])
def test_decode_hides_control_tokens_and_spells_thoughts(name: str, request: pytest.FixtureRequest) -> None:
    tokenizer: Tokenizer = request.getfixturevalue(name)
    special = tokenizer.special_tokens
    assert {"<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>"} <= set(special)
    assert tokenizer.special_id("<|im_end|>") == special["<|im_end|>"]
    assert tokenizer.special_id("im_end") is None
    ids = [special["<|im_start|>"], special["<think>"], *tokenizer.encode(" why 汉"), special["</think>"]]
    ids += [*tokenizer.encode("b"), special["<|im_end|>"], tokenizer.eos_id, tokenizer.pad_id, 10**6]
    assert tokenizer.decode(ids) == "<think> why 汉</think>b"
    assert max(special.values()) < tokenizer.vocab_size


@pytest.mark.parametrize("kind", ["sentencepiece", "huggingface"])
def test_saved_tokenizer_is_equal(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(request.getfixturevalue(f"{kind}_folder"))
    (tmp_path / "model.safetensors").write_text("weights")
    tokenizer.save(tmp_path)
    again = load_tokenizer(tmp_path)
    assert type(again) is type(tokenizer)
    assert again.fingerprint == tokenizer.fingerprint
    assert again.chat_template == tokenizer.chat_template
    assert again.encode("one 2 三") == tokenizer.encode("one 2 三")
    assert (tmp_path / "model.safetensors").exists()


def test_half_a_character_is_refused(
    sentencepiece_tokenizer: SentencePieceTokenizer, huggingface_tokenizer: HuggingFaceTokenizer
) -> None:
    for tokenizer in (sentencepiece_tokenizer, huggingface_tokenizer):
        with pytest.raises(DataError, match="surrogate"):
            tokenizer.encode("a\ud83d")


def test_training_repeats_and_is_quiet(tmp_path: Path, corpus: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    first = train_sentencepiece(corpus, tmp_path / "a", 600, seed=1)
    second = train_sentencepiece(iter(corpus), tmp_path / "b", 600, seed=1)
    assert first.vocab_size == 600
    assert first.fingerprint == second.fingerprint
    assert (tmp_path / "a/tokenizer.model").read_bytes() == (tmp_path / "b/tokenizer.model").read_bytes()
    assert json.loads((tmp_path / "a/tokenizer_config.json").read_text()) == {"kind": "sentencepiece"}
    assert all(len(first.encode(digit)) == 1 for digit in "0123456789\n")
    assert len(first.encode("123")) == 3
    assert capfd.readouterr() == ("", "")


def test_large_corpora_are_sampled_by_seed(tmp_path: Path, corpus: list[str]) -> None:
    prints = [train_sentencepiece(corpus, tmp_path, 500, seed, max_lines=100).fingerprint for seed in (1, 1, 2)]
    assert prints[0] == prints[1] != prints[2]


@pytest.mark.parametrize(
    ("vocab_size", "texts", "expected"),
    [
        (100_000, None, r"vocab_size=100000 is more than the corpus gives pieces for, which is \d+; lower"),
        (300, None, r"vocab_size=300 is too small: .* need \d+; raise"),
        (10, None, "vocab_size=10 is too small"),
        (0, None, "vocab_size=0 is too small"),
        (500, [], "no text"),
        (500, ["", " \n"], "no text"),
        (500, ["a\ud83d"], "text 0 of the tokenizer's corpus: half of a surrogate"),
    ],
)
def test_training_errors_say_which_size_works(
    tmp_path: Path, vocab_size: int, texts: list[str] | None, expected: str
) -> None:
    with pytest.raises(InputError, match=expected):
        train_sentencepiece(make_corpus() if texts is None else texts, tmp_path / "out", vocab_size, seed=0)
    assert not (tmp_path / "out").exists()


def test_size_that_the_error_names_works(tmp_path: Path, corpus: list[str]) -> None:
    with pytest.raises(InputError) as caught:
        train_sentencepiece(corpus, tmp_path, 100_000, seed=0)
    size = int(str(caught.value).split("which is ")[1].split(";")[0])
    assert train_sentencepiece(corpus, tmp_path, size, seed=0).vocab_size == size


def test_folders_without_tokenizer_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no tokenizer there; a model folder needs"):
        load_tokenizer(tmp_path)
    with pytest.raises(InputError, match="no such folder"):
        load_tokenizer(tmp_path / "missing")
    (tmp_path / "tokenizer.model").write_bytes(b"x")
    with pytest.raises(InputError, match="no tokenizer there"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("tokenizer.json", "{", "tokenizer.json: not JSON"),
        ("tokenizer.json", "[]", "tokenizer.json: a list, expected a JSON object"),
        ("tokenizer.json", "{}", "tokenizer.json: not a tokenizer description"),
        ("tokenizer.json", '{"added_tokens": [{"id": 1}]}', "its list of added tokens cannot be read"),
        ("tokenizer_config.json", "{}", "eos_token is None, which is no token"),
        ("tokenizer_config.json", '{"eos_token": "</s>"}', "eos_token is '</s>', which is no token"),
        ("tokenizer_config.json", "\x00", "tokenizer_config.json: not JSON"),
        (
            "tokenizer_config.json",
            '{"eos_token": "<|im_end|>", "chat_template": 3}',
            "chat_template is a int",
        ),
        (
            "tokenizer_config.json",
            '{"eos_token": "<|im_end|>", "chat_template": [{"name": "rag", "template": ""}]}',
            "chat_template lists .'rag'. and no",
        ),
    ],
)
def test_damaged_huggingface_files_are_named(
    huggingface_folder: Path, tmp_path: Path, name: str, content: str, expected: str
) -> None:
    shutil.copytree(huggingface_folder, tmp_path, dirs_exist_ok=True)
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=expected):
        load_tokenizer(tmp_path)


def test_damaged_template_file_is_named(huggingface_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(huggingface_folder, tmp_path, dirs_exist_ok=True)
    (tmp_path / "chat_template.jinja").write_bytes(b"\xff")
    with pytest.raises(DataError, match=r"chat_template\.jinja: not UTF-8 at byte 0"):
        load_tokenizer(tmp_path)
    (tmp_path / "chat_template.jinja").write_text("{{ messages }}")
    assert load_tokenizer(tmp_path).chat_template == "{{ messages }}"


def test_damaged_sentencepiece_model_is_named(sentencepiece_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(sentencepiece_folder, tmp_path, dirs_exist_ok=True)
    (tmp_path / "tokenizer.model").write_bytes(b"damaged")
    with pytest.raises(DataError, match=r"tokenizer\.model: not a SentencePiece model"):
        load_tokenizer(tmp_path)


def test_tokenizer_whose_text_can_be_control_is_refused(tmp_path: Path) -> None:
    tokens = {"[unk]": 0, "<end>": 1, "a": 2}
    description = {
        "model": {"type": "WordLevel", "vocab": tokens, "unk_token": "[unk]"},
        "added_tokens": [{"id": 1, "content": "<end>", "special": True, "single_word": False, "lstrip": False}],
    }
    description["added_tokens"][0] |= {"rstrip": False, "normalized": False}  # type: ignore[index]
    (tmp_path / "tokenizer.json").write_text(json.dumps(description))
    (tmp_path / "tokenizer_config.json").write_text('{"eos_token": "<end>"}')
    with pytest.raises(DataError, match="a text that spells '<end>' becomes that special token"):
        load_tokenizer(tmp_path)


def test_tokens_that_only_the_config_declares_are_known(huggingface_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(huggingface_folder, tmp_path, dirs_exist_ok=True)
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    size = load_tokenizer(tmp_path).vocab_size
    flags = {"lstrip": False, "rstrip": False, "normalized": False, "single_word": False, "special": True}
    config["added_tokens_decoder"] = {str(size): {"content": "<|extra|>", **flags}}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    tokenizer = load_tokenizer(tmp_path)
    assert tokenizer.special_id("<|extra|>") == size
    assert tokenizer.vocab_size == size + 1


def check_ids_against_transformers(folder: Path, texts: list[str]) -> None:
    from transformers import AutoTokenizer

    reference = AutoTokenizer.from_pretrained(folder)
    tokenizer = load_tokenizer(folder)
    for text in texts:
        ids = tokenizer.encode(text)
        assert ids == reference.encode(text, add_special_tokens=False)
        assert tokenizer.decode(ids) == reference.decode(ids) == unicodedata.normalize("NFC", text)
    assert tokenizer.eos_id == reference.eos_token_id
    assert tokenizer.pad_id == reference.pad_token_id
    assert tokenizer.vocab_size == len(reference)


def test_ids_equal_those_of_transformers(huggingface_folder: Path, corpus: list[str]) -> None:
    check_ids_against_transformers(huggingface_folder, corpus[:50] + TRICKY)


@pytest.mark.parametrize("name", ["qwen3", "qwen2.5"])
def test_ids_of_published_tokenizers_equal_those_of_transformers(
    real_folder: Callable[[str], Path], corpus: list[str], name: str
) -> None:
    texts = [
        *TRICKY,
        *corpus[:20],
        "It's 2024, naïve cafe\u0301: 1,234.5 €\n\n\tdef f(x):\n        return x",
        "小红书笔记 🌸✨\r\n",
    ]
    check_ids_against_transformers(real_folder(name), texts)
    tokenizer = load_tokenizer(real_folder(name))
    for token, token_id in tokenizer.special_tokens.items():
        assert token_id not in tokenizer.encode(token)
        assert tokenizer.decode(tokenizer.encode(token)) == token


def test_tokenizers_and_templates_need_no_torch() -> None:
    program = (
        "import sys; sys.modules['torch'] = None; sys.modules['transformers'] = None\n"
        "import megatron_redone.data.chat_template, megatron_redone.data.tokenizer\n"
        "import megatron_redone.data.packing, megatron_redone.data.microbatches"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
