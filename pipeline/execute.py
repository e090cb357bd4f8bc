"""Run a function over parts: in this process, in processes of this machine, or as Ray tasks.

The engine is Ray's (or the standard library's); this file only hands out parts and collects their small results. A part's
function writes its own artefact and returns counts; parts that are already on disk return at once, so a rerun resumes.
"""

from __future__ import annotations

import multiprocessing
import os
import reprlib
import socket
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NoReturn

from pipeline import progress
from pipeline.config import ConfigError, ExecutionConfig

MAX_RETRIES = 3
RETRY_PAUSE_S = 0.5
STALL_S = 600.0
CANCEL_GRACE_S = 5.0
CONNECT_S = 10.0


class WorkerLost(RuntimeError):
    """What ran a part died every time it was tried; the message names the part."""


def run_parts(
    function: Callable[..., Any],
    parts: Sequence[Any],
    execution: ExecutionConfig,
    *,
    desc: str,
    shared: Any = None,
) -> list[Any]:
    """`[function(part, shared) for part in parts]`, in part order.

    Args:
        function: a module-level function; called again when an OSError is raised or its process or node dies (up to
            `MAX_RETRIES` times), so it must be idempotent.
        parts: small picklable descriptions (paths, offsets), never video bytes.
        shared: one larger object for all parts; with Ray it is put into the object store once.

    Raises: the first error of a part that retries did not cure, with a note that names the part; WorkerLost. Parts already
    done keep their artefacts, and no part runs on after this returns or raises.
    """
    if not parts:
        return []
    with progress.bar(desc=desc, total=len(parts), unit="part") as bar:
        run = _Run(function, parts, shared, desc, bar)
        workers = min(execution.num_workers or os.cpu_count() or 1, len(parts))
        if execution.backend == "ray":
            _run_on_ray(run, execution)
        elif workers == 1:
            _run_here(run)
        else:
            _run_in_processes(run, workers)
    return [run.results[index] for index in range(len(parts))]


@dataclass(frozen=True)
class _Run:
    """What is to be run, and the results so far by part."""

    function: Callable[..., Any]
    parts: Sequence[Any]
    shared: Any
    desc: str
    bar: Any
    results: dict[int, Any] = field(default_factory=dict)

    def missing(self) -> list[int]:
        return [index for index in range(len(self.parts)) if index not in self.results]

    def keep(self, index: int, result: Any) -> None:
        self.results[index] = result
        self.bar.update()

    def name(self, index: int) -> str:
        return f"{self.desc}: part {index} of 0–{len(self.parts) - 1} ({reprlib.repr(self.parts[index])})"

    def fail(self, index: int, error: BaseException, cause: BaseException | None = None) -> NoReturn:
        error.add_note(f"in {self.name(index)}")
        raise error from cause or error.__cause__


def _attempt(function: Callable[..., Any], part: Any, shared: Any) -> Any:
    """One try; whoever retries an OSError meets storage that has had time to recover."""
    try:
        return function(part, shared)
    except OSError:
        time.sleep(RETRY_PAUSE_S)
        raise


def _with_retries(function: Callable[..., Any], part: Any, shared: Any) -> Any:
    for _ in range(MAX_RETRIES):
        with suppress(OSError):
            return _attempt(function, part, shared)
    return function(part, shared)


def _run_here(run: _Run) -> None:
    for index, part in enumerate(run.parts):
        try:
            run.keep(index, _with_retries(run.function, part, run.shared))
        except Exception as error:
            run.fail(index, error)


# -------------------------------------------------------------------------------------- processes of this machine


def _run_in_processes(run: _Run, workers: int) -> None:
    for _ in range(MAX_RETRIES + 1):
        with suppress(BrokenProcessPool):  # one dead process breaks the whole pool: the rest goes into a new one
            return _run_in_pool(run, workers)
    raise WorkerLost(
        f"{run.desc}: processes died in {MAX_RETRIES + 1} pools (out of memory?); "
        f"{len(run.missing())} of {len(run.parts)} parts are missing, the first is {run.name(run.missing()[0])}"
    )


def _run_in_pool(run: _Run, workers: int) -> None:
    # spawn: the parent may hold threads (Arrow, FFmpeg, torch) that a fork would copy in an undefined state.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_begin_worker, initargs=(run.shared,)) as pool:
        futures = {pool.submit(_call_with_kept_shared, run.function, run.parts[i]): i for i in run.missing()}
        try:
            for future in as_completed(futures):
                if (error := future.exception()) and not isinstance(error, BrokenProcessPool):
                    run.fail(futures[future], error)
                run.keep(futures[future], future.result())
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


_shared: Any = None


def _begin_worker(shared: Any) -> None:
    global _shared
    _shared = shared
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A worker whose parent was killed would wait for its next part for ever."""
    multiprocessing.parent_process().join()
    os._exit(1)


def _call_with_kept_shared(function: Callable[..., Any], part: Any) -> Any:
    return _with_retries(function, part, _shared)


# ------------------------------------------------------------------------------------------------------------ Ray


def _run_on_ray(run: _Run, execution: ExecutionConfig) -> None:
    ray = _connected_ray(execution)
    task = ray.remote(num_cpus=1, max_retries=MAX_RETRIES, retry_exceptions=[OSError])(_attempt)
    shared = ray.put(run.shared)  # the driver owns it: no node that dies takes it along
    waiting = iter(range(len(run.parts)))
    in_flight: dict[Any, int] = {}
    try:
        while len(run.results) < len(run.parts):
            limit = _in_flight_limit(ray, execution)
            while len(in_flight) < limit and (index := next(waiting, None)) is not None:
                named = task.options(name=f"{run.function.__name__} {index}")
                in_flight[named.remote(run.function, run.parts[index], shared)] = index
            done, _ = ray.wait(list(in_flight), num_returns=1, timeout=STALL_S)
            for reference in done:
                _keep(ray, run, in_flight.pop(reference), reference)
            if not done:
                _say_stalled(ray, run, sorted(in_flight.values()))
    finally:
        _cancel(ray, list(in_flight))


def _in_flight_limit(ray: Any, execution: ExecutionConfig) -> int:
    """Parts handed out at a time: what the user allows, or enough to keep the cluster busy and to let it grow."""
    return execution.num_workers or 2 * max(1, int(ray.cluster_resources().get("CPU", 0)))


def _keep(ray: Any, run: _Run, index: int, reference: Any) -> None:
    try:
        run.keep(index, ray.get(reference))
    except ray.exceptions.RayTaskError as error:  # the part's own error; Ray's holds the traceback of the worker
        run.fail(index, error.cause, error)
    except ray.exceptions.RayError as error:
        raise WorkerLost(
            f"{run.name(index)} was given up after {MAX_RETRIES + 1} tries: {error}\nThe same command goes on from here."
        ) from error


def _say_stalled(ray: Any, run: _Run, in_flight: list[int]) -> None:
    progress.say(
        f"{run.desc}: no part has finished for {STALL_S / 60:.0f} min; handed out: {reprlib.repr(in_flight)}; "
        f"the cluster offers {ray.cluster_resources().get('CPU', 0):.0f} CPUs (`ray status`, `ray list tasks` say more)"
    )


def _cancel(ray: Any, references: list[Any]) -> None:
    """Interrupt tasks, kill the workers of those that do not stop, and wait until none runs."""
    if not references:
        return
    with suppress(ray.exceptions.RayError):
        for reference in references:
            ray.cancel(reference)
        _, running = ray.wait(references, num_returns=len(references), timeout=CANCEL_GRACE_S)
        for reference in running:
            ray.cancel(reference, force=True)
        ray.wait(references, num_returns=len(references), timeout=CANCEL_GRACE_S)


def _connected_ray(execution: ExecutionConfig) -> Any:
    """The ray module, connected: once per process, whatever stages run in it."""
    try:
        import ray
    except ImportError as error:
        raise ImportError(
            "execution.backend=ray needs Ray: pip install 'tagreel[build]', or use --execution.backend process"
        ) from error
    if ray.is_initialized():
        return ray
    address = ray_address(execution)
    here = {"num_cpus": execution.num_workers, "include_dashboard": False} if address == "local" else {}
    try:
        _reach(address)
        ray.init(address=address, log_to_driver=False, logging_level="ERROR", **here)
    except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        raise ConfigError(f"cannot reach Ray at '{address}' (--execution.address, RAY_ADDRESS): {error}") from error
    return ray


def _reach(address: str) -> None:
    """Raise OSError at once where nobody listens: Ray would go on trying for minutes."""
    host, _, port = address.rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_S).close()


def ray_address(execution: ExecutionConfig) -> str:
    """Where the parts run: what the user names; else the cluster this process is a job of; else `local`.

    Ray sets RAY_ADDRESS in every job. Raises ConfigError for a URL: the driver runs on the cluster itself.
    """
    address = execution.address or os.environ.get("RAY_ADDRESS") or "local"
    if "://" in address:
        raise ConfigError(
            f"Ray address '{address}' is a URL, but a build joins a cluster as HOST:PORT or `auto`. From outside, submit it: "
            "ray job submit --address URL --working-dir . -- python -m dataset_builder.build … "
            "(or run it on this machine: --execution.address local)"
        )
    return address
