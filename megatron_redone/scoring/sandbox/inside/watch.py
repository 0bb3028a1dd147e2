"""What a program in a folder of the disk takes, as its keeper sees it: bytes, files and threads.

A box with mounts of its own needs no watch, for there the kernel counts. Here a program can take a little more than its
limits until the next look. What cannot be looked at counts as too much: a folder that may not be listed, a path too
long to be named, a file that lost its name and is mapped without being open.
"""

from __future__ import annotations

import contextlib
import os
import stat

from megatron_redone.scoring.sandbox.inside.lockdown import NUM_THREADS

_ENDLESS = 1 << 62


def excess(folder: str, child: int | None, num_bytes: int, num_files: int) -> bytes:
    """`folder` or `threads` where the program took too much, `unseen` where it cannot be looked at, else nothing.

    Args:
        folder, num_bytes, num_files: its folder and the limits of it.
        child: the program's process; None where it has ended.
    """
    nameless_bytes = nameless_files = 0
    if child is not None:
        try:
            if len(os.listdir(f"/proc/{child}/task")) > NUM_THREADS:
                return b"threads"
            nameless_bytes, nameless_files = _without_name(folder, child)
        except OSError:
            return b"unseen"
    return b"folder" if _too_much(folder, num_bytes - nameless_bytes, num_files - nameless_files) else b""


def _without_name(folder: str, child: int) -> tuple[int, int]:
    """Bytes and number of the files of the folder's file system that are held open and that no folder lists any more.

    One that is mapped and not open counts as endless, for nobody can say how large it is.
    """
    device = os.stat(folder).st_dev
    sizes: dict[int, int] = {}
    for name in os.listdir(f"/proc/{child}/fd"):
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            found = os.stat(f"/proc/{child}/fd/{name}")
            if stat.S_ISREG(found.st_mode) and found.st_nlink == 0 and found.st_dev == device:
                sizes[found.st_ino] = found.st_blocks * 512
    with open(f"/proc/{child}/maps", "rb") as maps:
        for line in maps:
            if line.endswith(b" (deleted)\n") and f" {folder}/".encode() in line:
                sizes.setdefault(int(line.split()[4]), _ENDLESS)
    return sum(sizes.values()), len(sizes)


def _too_much(folder: str, left_bytes: int, left_files: int) -> bool:
    """Whether a folder holds more than that, counted until it is sure."""
    todo = [folder]
    while todo:
        try:
            with os.scandir(todo.pop()) as entries:
                for entry in entries:
                    left_files -= 1
                    with contextlib.suppress(FileNotFoundError):  # deleted meanwhile
                        left_bytes -= entry.stat(follow_symlinks=False).st_blocks * 512
                        if entry.is_dir(follow_symlinks=False):
                            todo.append(entry.path)
                    if left_files < 0 or left_bytes < 0:
                        return True
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError:
            return True
    return left_bytes < 0 or left_files < 0
