"""Generated documents for the tests of the filter."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from random import Random

from megatron_redone.common.seeding import rng

WORDS = """
    river market window garden letter train evening kitchen bridge summer winter friend coffee music paper story morning
    village ticket island morning harbour lamp orange mountain teacher weather bicycle painting blanket the a of and
    to in was very quiet old new small near with from
""".split()  # noqa: SIM905
HAN = (
    "春夏秋冬山水风雨花草树木城市乡村早晨夜晚朋友老师火车书信"
    "音乐故事咖啡面包街道公园桥梁灯光旧新大小远近走来看听说写画笑"
)


def english(draw: Random, num_words: int = 40) -> str:
    return " ".join(draw.choice(WORDS) for _ in range(num_words)) + "."


def chinese(draw: Random, num_characters: int = 60) -> str:
    return "".join(draw.choice(HAN) for _ in range(num_characters)) + "。"


def clean_texts(count: int, name: str = "clean") -> list[str]:
    """Half English, half Chinese, all different."""
    draw = rng(name)
    return [english(draw) if i % 2 else chinese(draw) for i in range(count)]


def write_documents(path: Path, documents: Sequence[tuple[str, str]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps({"id": i, "text": t}, ensure_ascii=False) + "\n" for i, t in documents))
    return path


def read_texts(folder: Path) -> dict[str, str]:
    """id -> text of the kept corpus."""
    import gzip

    lines: list[bytes] = []
    for path in sorted(folder.glob("corpus*")):
        lines += (gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()).splitlines()
    return {value["id"]: value["text"] for value in map(json.loads, lines)}
