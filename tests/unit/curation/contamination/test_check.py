"""Planted leaks are found with file and line, and nothing is found where none is planted."""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from megatron_redone.common.errors import ConfigError, DataError
from megatron_redone.config.loading import validate
from megatron_redone.curation.contamination.check import check_contamination
from megatron_redone.curation.contamination.config import ContaminationConfig
from megatron_redone.curation.contamination.index import load_items
from megatron_redone.curation.contamination.training_texts import TAIL_CHARACTERS
from megatron_redone.data.indexed_corpus import write_corpus
from megatron_redone.data.ngrams import ngram_hashes, unit_hashes, units
from megatron_redone.reporting.contamination_schema import ITEMS, PAGE, RESULT, ContaminationResult
from megatron_redone.reporting.schema import read_result

HAN = "的一是在不了有和人这中大为上个国我以要他时来用们生到作地于出就分对成会可主发年动同工也能下过子"


def words(random: random.Random, count: int, of: str = "b") -> str:
    return " ".join(f"{of}{random.randrange(5000)}" for _ in range(count))


def characters(random: random.Random, count: int) -> str:
    return "".join(random.choices(HAN, k=count))


def benchmark(random: random.Random, count: int = 6) -> list[dict[str, str]]:
    """Items of two texts each; every other one is Chinese."""
    return [
        {"question": characters(random, 40), "answer": characters(random, 6)}
        if number % 2
        else {"question": words(random, 30), "answer": words(random, 3)}
        for number in range(count)
    ]


def write_lines(path: Path, rows: list[dict[str, object]]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def clean_rows(random: random.Random, count: int = 20) -> list[dict[str, object]]:
    return [{"text": f"{words(random, 40, 't')} {characters(random, 30)}"} for _ in range(count)]


def run(tmp_path: Path, training: Path, items: list[dict[str, str]], **config: object) -> ContaminationResult:
    path = write_lines(tmp_path / "bench.jsonl", list(items))
    return check_contamination(
        [training], {"bench": [path]}, ContaminationConfig.model_validate(config), tmp_path / "out"
    )


def disguised(text: str, how: str) -> str:
    if how == "case":
        return text.upper()
    if how == "space":
        return text.replace(" ", " \n\t ") if " " in text else "\n".join(text)
    if how == "punctuation":
        return text.replace(" ", ", ") + "!" if " " in text else "，".join(text) + "。"
    if how == "width":
        return "".join(chr(ord(sign) + 0xFEE0) if "!" <= sign <= "~" else sign for sign in text)
    return text


@pytest.mark.parametrize("how", ["exact", "case", "space", "punctuation", "width"])
@pytest.mark.parametrize("form", ["document", "conversation", "task_row", "pair", "text"])
def test_a_planted_leak_is_found_in_every_form_and_disguise(tmp_path: Path, how: str, form: str) -> None:
    draw = random.Random(how + form)
    items = benchmark(draw)
    rows: list[dict[str, object]] = clean_rows(draw)
    for place, leaked in ((3, 0), (11, 1)):
        question, answer = disguised(items[leaked]["question"], how), disguised(items[leaked]["answer"], how)
        user = [{"role": "user", "content": f"Please: {question}"}]
        rows[place] = {
            "document": {"text": f"before {question} between {answer} after"},
            "conversation": {"messages": [*user, {"role": "assistant", "content": answer}]},
            "task_row": {"task": "t", "fields": {"content": question}, "answer": [answer]},
            "pair": {"messages": user, "chosen": answer, "rejected": "no"},
            "text": {"text": f"before {question} between {answer} after"},
        }[form]
    if form == "text":
        training = tmp_path / "train.txt"
        training.write_text("\n".join(str(row["text"]) for row in rows), encoding="utf-8")
    else:
        training = write_lines(tmp_path / "train.jsonl", rows)
    result = run(tmp_path, training, items)
    overlap = result.benchmarks[0].overlap
    assert (overlap.items, overlap.judged, overlap.any_overlap) == (6, 6, 2)
    assert (overlap.partial, overlap.contaminated, overlap.with_answer) == (2, 2, 2)
    if not (form == "text" and how == "space"):  # there the lines are other ones
        found = {(one.index, one.training) for one in result.benchmarks[0].examples}
        assert found == {(0, f"{training}:4"), (1, f"{training}:12")}


@settings(max_examples=10)
@given(seed=st.integers(0, 10**6))
def test_nothing_planted_nothing_found(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    folder, draw = tmp_path_factory.mktemp("clean"), random.Random(seed)
    training = write_lines(folder / "train.jsonl", clean_rows(draw))
    result = run(folder, training, benchmark(draw))
    assert result.benchmarks[0].overlap.any_overlap == 0
    assert result.benchmarks[0].examples == ()
    assert (folder / "out" / ITEMS).read_text(encoding="utf-8") == ""


@settings(max_examples=10)
@given(seed=st.integers(0, 10**6), kept=st.integers(0, 30))
def test_the_share_is_that_of_sets_of_n_grams(tmp_path_factory: pytest.TempPathFactory, seed: int, kept: int) -> None:
    """Against a direct computation: the part of the question that leaks decides the share and the level."""
    folder, draw = tmp_path_factory.mktemp("share"), random.Random(seed)
    question = words(draw, 30)
    leaked = " ".join(question.split()[:kept])
    training = write_lines(folder / "train.jsonl", [*clean_rows(draw), {"text": f"x {leaked} y"}])
    result = run(folder, training, [{"question": question, "answer": "c"}])
    own = set(ngram_hashes(unit_hashes(units(question)), 13).tolist())
    known = set(ngram_hashes(unit_hashes(units(leaked)), 13).tolist())
    share = len(own & known) / len(own)
    overlap = result.benchmarks[0].overlap
    assert overlap.any_overlap == (share > 0)
    assert overlap.partial == (share >= 0.2)
    assert overlap.contaminated == (share >= 0.8)
    if share:
        assert result.benchmarks[0].examples[0].share == pytest.approx(share)
        assert result.benchmarks[0].examples[0].record_share == pytest.approx(share)


def test_short_common_phrases_do_not_count(tmp_path: Path) -> None:
    items = [
        {"question": "What do you think of it?", "answer": "yes"},
        {"question": "今天吃什么好吃的呢朋友们", "answer": "是"},
    ]
    training = write_lines(tmp_path / "t.jsonl", [{"text": " ".join(item["question"] for item in items) + " yes 是"}])
    overlap = run(tmp_path, training, items).benchmarks[0].overlap
    assert (overlap.items, overlap.judged, overlap.any_overlap, overlap.with_answer) == (2, 0, 0, 0)


def test_a_short_text_is_found_as_a_whole_only(tmp_path: Path) -> None:
    items = [{"question": "nine words make up this short question about boats"}]
    whole = write_lines(tmp_path / "a.jsonl", [{"text": f"so {items[0]['question']} there"}])
    assert run(tmp_path, whole, items).benchmarks[0].overlap.contaminated == 1
    part = write_lines(tmp_path / "b.jsonl", [{"text": "nine words make up this short question about ships"}])
    assert run(tmp_path, part, items).benchmarks[0].overlap.any_overlap == 0


def test_the_prompt_of_a_benchmark_does_not_count(tmp_path: Path) -> None:
    draw = random.Random(0)
    prompt = words(draw, 20)
    items = [{"prompt": prompt, "question": words(draw, 20)} for _ in range(12)]
    training = write_lines(tmp_path / "t.jsonl", [{"text": prompt}])
    assert run(tmp_path, training, items).benchmarks[0].overlap.any_overlap == 0
    assert run(tmp_path, training, items, max_rows_per_ngram=12).benchmarks[0].overlap.contaminated == 12


def test_the_answer_counts_only_beside_its_question(tmp_path: Path) -> None:
    draw = random.Random(1)
    item = {"question": words(draw, 30), "answer": "seventeen boats"}
    apart = write_lines(tmp_path / "a.jsonl", [{"text": item["question"]}, {"text": item["answer"]}])
    assert run(tmp_path, apart, [item]).benchmarks[0].overlap.with_answer == 0
    inside = write_lines(tmp_path / "b.jsonl", [{"text": f"{item['question']} xseventeen boats"}])
    assert run(tmp_path, inside, [item]).benchmarks[0].overlap.with_answer == 0
    both = write_lines(tmp_path / "c.jsonl", [{"text": f"{item['question']} Seventeen\nboats!"}])
    assert run(tmp_path, both, [item]).benchmarks[0].overlap.with_answer == 1


def test_an_item_known_from_two_files_together_is_contaminated_by_both(tmp_path: Path) -> None:
    draw = random.Random(2)
    question = words(draw, 40)
    halves = question.split()[:26], question.split()[14:]
    (tmp_path / "train").mkdir()
    for number, half in enumerate(halves):
        write_lines(tmp_path / "train" / f"{number}.jsonl", [{"text": " ".join(half)}])
    result = run(tmp_path, tmp_path / "train", [{"question": question}])
    assert [file.overlap.contaminated for file in result.training] == [0, 0]
    assert [file.overlap.any_overlap for file in result.training] == [1, 1]
    assert [file.by_benchmark for file in result.training] == [{"bench": 1}] * 2
    assert result.benchmarks[0].overlap.contaminated == 1
    assert result.benchmarks[0].examples[0].share == 1.0
    assert result.benchmarks[0].examples[0].record_share == 0.5


def test_a_leak_across_the_blocks_of_a_long_text_is_found_at_its_line(tmp_path: Path) -> None:
    draw = random.Random(3)
    items = benchmark(draw, 2)
    lines = [words(draw, 12, "t") for _ in range(3000)]
    for place in range(0, 3000, 50):  # so dense that some stand across a border of blocks
        lines[place] = items[0]["question"].replace(" ", "\n", 15).replace("\n", " ")
    lines[2990] = items[1]["question"]
    training = tmp_path / "long.txt.gz"
    training.write_bytes(gzip.compress("\n".join(lines).encode()))
    result = run(tmp_path, training, items)
    assert {one.index: one.training for one in result.benchmarks[0].examples} == {
        0: f"{training}:1",
        1: f"{training}:2991",
    }
    assert len("\n".join(lines)) > 20 * TAIL_CHARACTERS


@pytest.mark.parametrize("offset", range(0, 60, 7))
def test_no_leak_falls_between_two_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, offset: int) -> None:
    module = "megatron_redone.curation.contamination.training_texts"
    monkeypatch.setattr(f"{module}.BLOCK_CHARACTERS", 200)
    monkeypatch.setattr(f"{module}.TAIL_CHARACTERS", 150)
    draw = random.Random(4)
    items = [{"question": words(draw, 14)}]
    training = tmp_path / "t.txt"
    padding = "x" * (130 + offset)
    training.write_text(f"{padding}\n" + items[0]["question"].replace(" ", "\n") + "\nend\n" * 50)
    assert run(tmp_path, training, items).benchmarks[0].overlap.contaminated == 1


class Letters:
    """A tokenizer of code points, enough to write and read shards."""

    def decode(self, ids: list[int]) -> str:
        return "".join(map(chr, ids))


def test_token_shards_are_compared_through_their_texts(tmp_path: Path) -> None:
    draw = random.Random(5)
    items = benchmark(draw, 2)
    texts = [words(draw, 20, "t"), f"so {items[1]['question']} it was", words(draw, 20, "t")]
    write_corpus(tmp_path / "train" / "shard", [[ord(sign) for sign in text] for text in texts])
    path = write_lines(tmp_path / "bench.jsonl", list(items))
    config, out = ContaminationConfig(), tmp_path / "out"
    result = check_contamination([tmp_path / "train"], {"b": [path]}, config, out, Letters().decode)
    (example,) = result.benchmarks[0].examples
    assert (example.index, example.training) == (1, f"{tmp_path / 'train' / 'shard.idx'}:1")
    with pytest.raises(DataError, match=r"shard\.idx: tokens are compared as text; give their tokenizer"):
        check_contamination([tmp_path / "train"], {"b": [path]}, config, out)


def test_bad_training_lines_are_counted_and_the_rest_is_searched(tmp_path: Path) -> None:
    draw = random.Random(6)
    items = benchmark(draw, 2)
    training = tmp_path / "t.jsonl"
    good = json.dumps({"text": items[0]["question"]}).encode()
    bad = [b'{"text": ', b"\xff\xfe{}", b"[1]", b'{"n": ' + b"9" * 5000 + b"}", b"[" * 100_000]
    training.write_bytes(b"\n".join([*bad, b'{"text": "a\\u0000b \\ud800"}', good]) + b"\n\n")
    result = run(tmp_path, training, items, max_refused_share=0.9)
    assert (result.refused, result.training[0].refused, result.training[0].records) == (5, 5, 2)
    assert [message.split(": ")[0] for message in result.refused_messages] == [f"{training}:{n}" for n in range(1, 6)]
    assert result.benchmarks[0].examples[0].training == f"{training}:7"
    with pytest.raises(DataError, match=r"5 of 7 lines refused.*\n.*t\.jsonl:1: not JSON"):
        run(tmp_path, training, items)


@pytest.mark.parametrize("name", ["t.jsonl.gz", "t.txt.gz", "t.json.gz"])
def test_a_cut_gzip_file_is_refused(tmp_path: Path, name: str) -> None:
    rows = clean_rows(random.Random(7), 3000)
    packed = gzip.compress((json.dumps(rows) if ".json." in name else "\n".join(map(json.dumps, rows))).encode())
    (tmp_path / name).write_bytes(packed[: len(packed) // 2])
    with pytest.raises(DataError, match=rf"{name}:\d+: .*(cut|damaged)"):
        run(tmp_path, tmp_path / name, benchmark(random.Random(8)))
    assert not (tmp_path / "out").exists()


def test_a_broken_or_cut_benchmark_is_refused(tmp_path: Path) -> None:
    training = write_lines(tmp_path / "t.jsonl", clean_rows(random.Random(9)))
    (tmp_path / "b.jsonl").write_bytes(b'{"q": "x"}\n{"q": \n')
    packed = gzip.compress(b'{"q": "x y z"}\n' * 5000)
    (tmp_path / "c.jsonl.gz").write_bytes(packed[:-20])
    (tmp_path / "d.jsonl").write_bytes(b'{"q": ' + b"9" * 5000 + b"}")
    (tmp_path / "e.jsonl").write_bytes(b"")
    for name, message in (
        ("b.jsonl", r"b\.jsonl:2: a benchmark that is no JSON"),
        ("c.jsonl.gz", r"c\.jsonl\.gz:\d+: cannot be read on"),
        ("d.jsonl", r"d\.jsonl:1: a benchmark that is no JSON"),
        ("e.jsonl", r"the benchmarks have no items"),
        ("absent", r"absent: no benchmark files there"),
    ):
        with pytest.raises(DataError, match=message):
            check_contamination([training], {"b": [tmp_path / name]}, ContaminationConfig(), tmp_path / "out")


def test_no_records_no_result(tmp_path: Path) -> None:
    empty = tmp_path / "t.txt"
    empty.write_bytes(b"")
    with pytest.raises(DataError, match=r"the training files hold no records"):
        run(tmp_path, empty, benchmark(random.Random(0)))
    with pytest.raises(DataError, match=r"t\.bin: the name has to end with"):
        run(tmp_path, write_lines(tmp_path / "t.bin", []), benchmark(random.Random(0)))


def test_an_object_over_many_lines_is_one_record(tmp_path: Path) -> None:
    items = benchmark(random.Random(10), 2)
    training = tmp_path / "t.json"
    training.write_text(json.dumps({"valid": [[items[1]["question"]]]}, indent=1))
    result = run(tmp_path, training, items)
    assert (result.training[0].records, result.benchmarks[0].overlap.contaminated) == (1, 1)


def test_the_files_agree_with_the_result(tmp_path: Path) -> None:
    draw = random.Random(11)
    items = benchmark(draw)
    training = write_lines(tmp_path / "t.jsonl", [{"text": "<b>" + item["question"]} for item in items])
    result = run(tmp_path, training, items, examples=2)
    assert read_result(tmp_path / "out" / RESULT, ContaminationResult) == result
    assert len(result.benchmarks[0].examples) == 2
    lines = [json.loads(line) for line in (tmp_path / "out" / ITEMS).read_text(encoding="utf-8").splitlines()]
    assert sorted(line["index"] for line in lines) == list(range(6))
    page = (tmp_path / "out" / PAGE).read_text(encoding="utf-8")
    assert "2 of 6 items with overlap" in page and "<script" not in page and "<b>t" not in page


def test_memory_is_that_of_the_benchmark(tmp_path: Path) -> None:
    """What the index holds is a function of the benchmark: its n-grams, each once, with their owners."""
    items = [{"question": "a b c d e f g h i j k l m n"}, {"question": "b c d e f g h i j k l m n o"}]
    path = write_lines(tmp_path / "b.jsonl", list(items))
    loaded = load_items({"b": [path]}, ContaminationConfig())
    assert {n: (len(grams.keys), len(grams.texts)) for n, grams in loaded.grams.items()} == {13: (3, 4)}
    assert np.array_equal(loaded.text_grams, [2, 2])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"partial_share": 0.9}, "partial_share=0.9 is above contaminated_share=0.8"),
        ({"min_words": 14}, "min_words=14 is above ngram_words=13"),
        ({"min_characters": 20}, "min_characters=20 is above ngram_characters=13"),
    ],
)
def test_settings_that_do_not_fit_are_refused(given: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        validate(ContaminationConfig, given, "settings")
