"""Run a function over parts: in this process, in processes of this machine, or as Ray tasks.

The engine is Ray's (or the standard library's); this file only hands out parts and collects their small results. A part's
function writes its own artefact and returns counts; parts that are already on disk return at once, so a rerun resumes.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import Any

from pipeline import progress
from pipeline.config import ExecutionConfig

MAX_RETRIES = 3


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
        function: a module-level function; called again when a worker dies or an OSError is raised (up to `MAX_RETRIES`
            times), so it must be idempotent.
        parts: small picklable descriptions (paths, offsets), never video bytes.
        shared: one larger object for all parts; with Ray it is put into the object store once.

    Raises: the first error of a part that retries did not cure; parts already done keep their artefacts.
    """
    if not parts:
        return []
    with progress.bar(desc=desc, total=len(parts), unit="part") as bar:
        if execution.backend == "ray":
            return _run_ray(function, parts, execution, shared, bar)
        workers = execution.num_workers or os.cpu_count() or 1
        if workers == 1 or len(parts) == 1:
            return [_advance(bar, _with_retries(function, part, shared)) for part in parts]
        return _run_processes(function, parts, min(workers, len(parts)), shared, bar)


def _advance(bar: Any, result: Any) -> Any:
    bar.update()
    return result


def _with_retries(function: Callable[..., Any], part: Any, shared: Any) -> Any:
    for attempt in range(MAX_RETRIES + 1):
        try:
            return function(part, shared)
        except OSError:
            if attempt == MAX_RETRIES:
                raise
    raise AssertionError("unreachable")


def _run_processes(
    function: Callable[..., Any], parts: Sequence[Any], workers: int, shared: Any, bar: Any
) -> list[Any]:
    # spawn: the parent may hold threads (Arrow, FFmpeg, torch) that a fork would copy in an undefined state.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_keep_shared, initargs=(shared,)) as pool:
        futures = [pool.submit(_call_with_kept_shared, function, part) for part in parts]
        try:
            for future in as_completed(futures):
                future.result()
                bar.update()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        return [future.result() for future in futures]


_shared: Any = None


def _keep_shared(shared: Any) -> None:
    global _shared
    _shared = shared


def _call_with_kept_shared(function: Callable[..., Any], part: Any) -> Any:
    return _with_retries(function, part, _shared)


def _run_ray(
    function: Callable[..., Any], parts: Sequence[Any], execution: ExecutionConfig, shared: Any, bar: Any
) -> list[Any]:
    ray = _ray(execution)
    task = ray.remote(num_cpus=1, max_retries=MAX_RETRIES, retry_exceptions=[OSError])(function)
    shared_ref = ray.put(shared)
    in_flight_limit = 2 * (execution.num_workers or int(ray.cluster_resources().get("CPU", 1)))
    results: dict[int, Any] = {}
    in_flight: dict[Any, int] = {}
    waiting = iter(range(len(parts)))
    try:
        while len(results) < len(parts):
            while len(in_flight) < in_flight_limit and (index := next(waiting, None)) is not None:
                in_flight[task.remote(parts[index], shared_ref)] = index
            done, _ = ray.wait(list(in_flight), num_returns=1)
            for reference in done:
                index = in_flight.pop(reference)
                results[index] = ray.get(reference)
                bar.update()
    except ray.exceptions.RayTaskError as error:
        raise error.as_instanceof_cause() from None
    finally:
        for reference in in_flight:
            ray.cancel(reference)
    return [results[index] for index in range(len(parts))]


def _ray(execution: ExecutionConfig) -> Any:
    """The ray module, connected: once per process, whatever stages run in it."""
    try:
        import ray
    except ImportError as error:
        raise ImportError(
            "execution.backend=ray needs Ray: pip install 'tagreel[build]', or use --execution.backend process"
        ) from error
    if not ray.is_initialized():
        here = {"num_cpus": execution.num_workers, "include_dashboard": False} if execution.address == "local" else {}
        ray.init(address=execution.address, log_to_driver=False, logging_level="ERROR", **here)
    return ray
