"""Independent jobs over processes; a stop or an error ends them, and a process that was killed is told of."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from megatron_redone.common.errors import RedoneError
from megatron_redone.curation.tokens.worker import start_worker
from megatron_redone.training.stop import stop_signal, stopped

Job = TypeVar("Job")
Result = TypeVar("Result")
SECONDS_BETWEEN_LOOKS = 0.5


def run_jobs(function: Callable[[Job], Result], jobs: Sequence[Job], workers: int, name: str) -> Iterator[Result]:
    """Yields the results in the order in which they come; with one worker or job all is done in this process.

    Args:
        function: of a module, so that a new process can import it; it should import no torch.
        name: what the message of a stop begins with.

    Raises:
        Interrupted: a stop was asked for; what is yielded is done.
        RedoneError: a process was killed; or whatever a job raised.
    """
    if min(workers, len(jobs)) <= 1:
        for job in jobs:
            _look_for_stop(name)
            yield function(job)
        return
    pool = ProcessPoolExecutor(
        min(workers, len(jobs)),
        mp_context=multiprocessing.get_context("spawn"),
        initializer=start_worker,
        initargs=(os.getpid(),),
    )
    try:
        running: set[Future[Result]] = {pool.submit(function, job) for job in jobs}
        while running:
            done, running = wait(running, SECONDS_BETWEEN_LOOKS, FIRST_COMPLETED)
            for future in done:
                yield future.result()
            if running:
                _look_for_stop(name)
    except BrokenProcessPool as error:
        raise RedoneError(
            f"{name}: one of {workers} processes was killed, perhaps because memory ran out; lower `workers`. "
            "The same command goes on with what is not done yet."
        ) from error
    finally:
        _end(pool)


def _end(pool: ProcessPoolExecutor) -> None:
    """Ends the processes; what a job has half done is lost, as after a kill."""
    processes = list((pool._processes or {}).values())
    pool.shutdown(wait=False, cancel_futures=True)
    for process in processes:
        process.terminate()
    for process in processes:
        process.join()


def _look_for_stop(name: str) -> None:
    if stop_signal():
        raise stopped(f"{name}: stopped; the same command goes on with what is not done yet", stop_signal())
