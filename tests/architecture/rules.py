"""The rules of the house as functions: each yields one sentence a violation, naming file and line."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

# Bottom to top. A room may import rooms of lower rows only: never its own row, never a row above.
LAYERS = (
    ("common",),
    ("config",),
    ("data", "scoring", "parallel", "launch", "reporting"),
    ("checkpoint",),
    ("models", "tasks", "objectives"),
    ("planning", "training", "generation", "conversion"),
    ("rl", "curation", "evaluation"),
    ("nemo_aligner",),
    ("recipes", "verification", "benchmarks"),
    ("cli",),
)
LAYER_OF = {room: layer for layer, rooms in enumerate(LAYERS) for room in rooms}
ROOMS_THAT_READ_THE_PROCESS = ("cli", "launch")
FORBIDDEN_NAMES = ("utils", "util", "helpers", "helper", "misc")
USUAL_MAXIMUM_LINES = 300

# A path of one person's machine, or of a folder beside the checkout, means nothing to a reader.
MACHINE_PATH = re.compile(r"(?<![\w.~-])/(?:work|root|home|Users)/[\w.-]+|\.\./shared\b")
INDEX_HOST = re.compile(r"https?://|file://|--(?:extra-)?index-url|--find-links|--trusted-host")


def imported_names(node: ast.AST, package: list[str]) -> list[str]:
    """Absolute dotted names that `node` imports; `package` is the importing file's own package."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if not isinstance(node, ast.ImportFrom):
        return []
    base = package[: len(package) - node.level + 1] if node.level else []
    base = [*base, *(node.module.split(".") if node.module else [])]
    return [".".join([*base, alias.name]) for alias in node.names]


def layer_violations(root: Path) -> Iterator[str]:
    """Imports that go up or sideways, and rooms that stand in no layer."""
    for path in sources(root):
        package = [root.name, *path.relative_to(root).parts[:-1]]
        if len(package) < 2:
            continue
        here = package[1]
        if here not in LAYER_OF:
            yield f"{path}: the room {here} stands in no layer; add it to LAYERS"
            continue
        for node in ast.walk(parse(path)):
            for name in imported_names(node, package):
                there = name.split(".")[1] if name.startswith(f"{root.name}.") else here
                if there != here and there in LAYER_OF and LAYER_OF[there] >= LAYER_OF[here]:
                    yield f"{path}:{node_line(node)}: {here} must not import {there}"


def package_file_violations(root: Path) -> Iterator[str]:
    """Folders of modules without `__init__.py`, and such files that are not empty."""
    for folder in sorted({path.parent for path in sources(root)}):
        package_file = folder / "__init__.py"
        if not package_file.is_file():
            yield f"{folder}: no __init__.py"
        elif package_file.read_text(encoding="utf-8").strip():
            yield f"{package_file}: must be empty"


def name_violations(root: Path) -> Iterator[str]:
    """Files and folders whose name says nothing about what is inside."""
    for path in sources(root):
        for part in path.relative_to(root).with_suffix("").parts:
            if part in FORBIDDEN_NAMES:
                yield f"{path}: no module is called {part}; name it after what it does"


def process_state_violations(root: Path) -> Iterator[str]:
    """Uses of `sys.argv` and of the environment outside `cli` and `launch`: they make behaviour invisible."""
    for path in sources(root):
        if path.relative_to(root).parts[0] in ROOMS_THAT_READ_THE_PROCESS:
            continue
        if path.relative_to(root).parts[:3] == ("scoring", "sandbox", "inside"):
            continue  # a program of its own, which runs in a box and arranges the box's environment
        for node in ast.walk(parse(path)):
            for name in process_state_names(node):
                yield f"{path}:{node_line(node)}: {name} belongs in cli or launch; take an argument instead"


def process_state_names(node: ast.AST) -> list[str]:
    """`sys.argv`, `os.environ` and their like, as far as `node` uses or imports them."""
    forbidden = {"sys": {"argv", "orig_argv"}, "os": {"environ", "environb", "getenv", "getenvb", "putenv"}}
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        if node.attr in forbidden.get(node.value.id, ()):
            return [f"{node.value.id}.{node.attr}"]
    elif isinstance(node, ast.ImportFrom) and node.module in forbidden:
        return [f"{node.module}.{alias.name}" for alias in node.names if alias.name in forbidden[node.module]]
    return []


def long_files(root: Path) -> list[tuple[int, Path]]:
    """Files over the usual maximum, longest first: worth a look, no error."""
    lengths = [(len(path.read_text(encoding="utf-8").splitlines()), path) for path in sources(root)]
    return sorted((entry for entry in lengths if entry[0] > USUAL_MAXIMUM_LINES), reverse=True)


def machine_path_violations(files: list[Path]) -> Iterator[str]:
    """Paths that exist on one machine only."""
    yield from matching_lines(files, MACHINE_PATH, "a path of one machine")


def index_host_violations(files: list[Path]) -> Iterator[str]:
    """Package indexes named in requirement files: which index serves a package is the user's setting."""
    yield from matching_lines(files, INDEX_HOST, "names a package index")


def matching_lines(files: list[Path], pattern: re.Pattern[str], problem: str) -> Iterator[str]:
    for path in files:
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            found = pattern.search(line)
            if found:
                yield f"{path}:{number}: {problem}: {found.group()}"


def sources(root: Path) -> list[Path]:
    return sorted(root.rglob("*.py"))


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def node_line(node: ast.AST) -> int:
    return getattr(node, "lineno", 0)


def modules_free_of_torch(package: Path) -> list[str]:
    """Dotted names of the modules that a login node imports: common, config, launch, configs, presets, and every
    module that says of itself that it imports no torch."""
    names = []
    for path in sources(package):
        relative = path.relative_to(package)
        in_free_room = relative.parts[0] in ("common", "config", "launch")
        says_so = "Imports no torch" in (ast.get_docstring(parse(path)) or "")
        if in_free_room or says_so or path.stem == "config" or "presets" in path.stem or path.name == "__init__.py":
            parts = relative.with_suffix("").parts
            names.append(".".join([package.name, *(p for p in parts if p != "__init__")]))
    return names
