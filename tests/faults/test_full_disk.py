"""A disk that is full ends the training with a message; what was saved stays, and with room it ends as if never full.

The disk is a small file system in a namespace of its own, which needs no rights where a system has user namespaces.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.faults.table import FaultTable
from tests.faults.training import (
    EVERY,
    Forked,
    assert_equal,
    checkpoints,
    fork,
    go_on,
    stop_after,
)

MOUNT = 'mount -t tmpfs -o size=100m tmpfs "$0" && echo mounted && exec cat'

ROOMS_BYTES = (2**12, 2**13, 2**14, 2**16, 2**20)
"""With the least, the small files beside and in a checkpoint do not fit; with the most, half of the weights do."""
LONG = [pytest.mark.slow, pytest.mark.faults]
DISK_FULL = re.compile("DiskFullError: .*: the disk is full .* free space and run the same command again")

pytestmark = pytest.mark.distributed


class SmallDisk:
    """A folder that is a file system of its own for the processes of one namespace.

    Attributes:
        folder: its path in the namespace.
        view: a path to the same folder from outside.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.owner = subprocess.Popen(
            ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", MOUNT, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self.owner.stdout is not None
        self.mounted = self.owner.stdout.readline() == "mounted\n"
        self.folder, self.view = folder, Path(f"/proc/{self.owner.pid}/root") / folder.relative_to("/")

    def fork(self, output: Path, *settings: str) -> Forked:
        """Starts ranks in a run folder, given as it is seen from outside."""
        return fork(self.folder / output.relative_to(self.view), *settings, mounts_of=self.owner.pid)

    def fill(self, room_bytes: int) -> Path:
        """Writes a file that leaves so much room."""
        ballast = self.view / "ballast"
        with ballast.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, shutil.disk_usage(self.view).free - room_bytes)
        return ballast

    def close(self) -> None:
        """Ends the process that keeps the namespace; the file system goes with it."""
        self.owner.communicate()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[SmallDisk]:
    if shutil.which("unshare") is None:
        pytest.skip("no unshare: only Linux lets a user mount a small file system to fill")
    disk = SmallDisk(tmp_path / "disk")
    if not disk.mounted:
        disk.close()
        pytest.skip("this system refuses a user namespace with mounts of its own (unshare --user --mount)")
    yield disk
    disk.close()


@pytest.mark.parametrize("rooms", [ROOMS_BYTES[:1], pytest.param(ROOMS_BYTES, marks=LONG)])
def test_a_full_disk_costs_the_steps_since_the_last_checkpoint(
    rooms: Sequence[int], small_disk: SmallDisk, prepared: Path, whole: Path, fault_table: FaultTable
) -> None:
    for room_bytes in rooms:
        output = shutil.copytree(prepared, small_disk.view / str(room_bytes))
        stop_after(2 * EVERY + 1, small_disk.fork(output), output)
        kept = sorted(checkpoints(output).iterdir())
        ballast = small_disk.fill(room_bytes)
        training = small_disk.fork(output)
        training.end()
        codes = [rank.exitcode for rank in training.processes]
        assert codes[0] == 1 and codes[1] in (1, 70), codes  # 70: it lost the rank that met the full disk
        assert DISK_FULL.search(training.said()) and "Traceback" not in training.said()
        assert sorted(checkpoints(output).iterdir()) == kept
        ballast.unlink()
        go_on(output, small_disk.fork, fault_table.of("full disk"))
        assert_equal(output, whole)
