"""Runs one program, one candidate of unit tests, or the tests themselves, in a process that is closed already."""

from __future__ import annotations

import atexit
import contextlib
import json
import linecache
import os
import random
import sys
import threading
import traceback
import types
from typing import Any

from megatron_redone.scoring.sandbox.inside.candidate import Candidate
from megatron_redone.scoring.sandbox.inside.link import LinkBrokenError
from megatron_redone.scoring.sandbox.inside.tester import Tester

FILE = "program.py"


def run(request: dict[str, Any], source: bytes, descriptors: list[int]) -> int:
    """Does what the request says (`mode`); returns the exit code."""
    random.seed(0)  # equal programs get equal scores
    if request["mode"] == "program":
        return _run_program(source)
    null = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):  # what is printed here, nobody reads
        os.dup2(null, number)
    _renew_standard_files()
    if request["mode"] == "candidate":
        return _serve_candidate(source, descriptors)
    return _run_tests(request, descriptors)


def _run_program(source: bytes) -> int:
    _renew_standard_files()
    sys.argv = [FILE]
    try:
        code = _exit_code(_execute(source, "__main__")[1])
        threading._shutdown()  # type: ignore[attr-defined]  # waits for its threads, as the interpreter does at its end
        atexit._run_exitfuncs()
        with contextlib.suppress(OSError, ValueError):  # it may have closed its output
            sys.stdout.flush()
    except BaseException as error:  # noqa: BLE001 - a thread or handler of the program
        code = _exit_code(error)
    return code


def _execute(source: bytes, name: str) -> tuple[dict[str, Any], BaseException | None]:
    """The names that the program defines, and what ended it early."""
    module = types.ModuleType(name)
    module.__file__ = FILE
    sys.modules[name] = module
    try:
        code = compile(source, FILE, "exec", dont_inherit=True)
        text = source.decode("utf-8", "replace")
        linecache.cache[FILE] = (len(text), None, text.splitlines(keepends=True), FILE)
        exec(code, module.__dict__)
    except BaseException as error:  # noqa: BLE001 - also SystemExit and KeyboardInterrupt are the program's own
        return module.__dict__, error
    return module.__dict__, None


def _exit_code(error: BaseException | None) -> int:
    """As Python ends: the code of SystemExit, or 1 with a traceback of the program's own frames."""
    if error is None:
        return 0
    if isinstance(error, SystemExit):
        if error.code is None or isinstance(error.code, int):
            return (error.code or 0) & 0xFF
        print(error.code, file=sys.stderr)
        return 1
    frames = error.__traceback__.tb_next if error.__traceback__ else None
    try:
        traceback.print_exception(type(error), error, frames)
    except BaseException:  # noqa: BLE001 - no memory left to say more
        os.write(2, f"{type(error).__name__}\n".encode())
    return 1


def _renew_standard_files() -> None:
    """New file objects over the descriptors, which are others than when the interpreter started."""
    stdin = open(0, encoding="utf-8", errors="surrogateescape", closefd=False)  # noqa: SIM115
    stdout = open(1, "w", encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
    stderr = open(2, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
    for name, file in (("stdin", stdin), ("stdout", stdout), ("stderr", stderr)):
        vars(sys).update({name: file, f"__{name}__": file})


def _serve_candidate(source: bytes, descriptors: list[int]) -> int:
    namespace, failure = _execute(source, "solution")
    reader, writer = descriptors
    Candidate(reader, writer, namespace, failure).link.answer_calls()
    return 0


def _run_tests(request: dict[str, Any], descriptors: list[int]) -> int:
    """The verdict goes, with the nonce of the request, to a pipe that only this box has."""
    reader, writer, verdict = descriptors
    reason = ""
    try:
        Tester(reader, writer).run(request["setup"], request["tests"], request["entry_point"])
    except LinkBrokenError as error:
        reason = str(error)
    except BaseException as error:  # noqa: BLE001 - whatever a test raises is its failure
        places = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename.startswith("<")]
        where = f"{places[-1].filename[1:-1]}, line {places[-1].lineno}: " if places else ""
        reason = f"{where}{type(error).__name__}: {error}"[:500]
    answer = {"nonce": request["nonce"], "passed": not reason, "reason": reason}
    os.write(verdict, json.dumps(answer).encode("ascii"))
    return 0
