"""Copies of microbatches to a GPU, made ahead of use on a stream of their own."""

from collections import deque
from collections.abc import Iterator

import torch

from pretrain.data import Batch

DEPTH = 2  # microbatches on the device beside the one in use


def on_device(batches: Iterator[Batch], device: torch.device) -> Iterator[Batch]:
    """The same batches with clips and labels on a GPU; elsewhere `batches` as they are.

    Wants pinned memory (`microbatches(..., pin=True)`), without which the copies hold up this process.
    """
    return _ahead(batches, device) if device.type == "cuda" else batches


def _ahead(batches: Iterator[Batch], device: torch.device) -> Iterator[Batch]:
    stream = torch.cuda.Stream(device)
    waiting: deque[tuple[Batch, torch.cuda.Event]] = deque()
    for batch in batches:
        waiting.append(_copied(batch, device, stream))
        if len(waiting) > DEPTH:
            yield _usable(*waiting.popleft())
    while waiting:
        yield _usable(*waiting.popleft())


def _copied(batch: Batch, device: torch.device, stream: torch.cuda.Stream) -> tuple[Batch, torch.cuda.Event]:
    """Begin the copies; the event is their end."""
    with torch.cuda.stream(stream):
        clips_BTHWC = batch.clips_BTHWC.to(device, non_blocking=True)
        labels = batch.labels.to(device, non_blocking=True)
        return batch._replace(clips_BTHWC=clips_BTHWC, labels=labels), stream.record_event()


def _usable(batch: Batch, copied: torch.cuda.Event) -> Batch:
    """The batch for the current stream: work enqueued there from now on waits for the copies, this process does not."""
    current = torch.cuda.current_stream(batch.clips_BTHWC.device)
    current.wait_event(copied)
    for tensor in (batch.clips_BTHWC, batch.labels):
        tensor.record_stream(current)  # its memory is not given to later copies before that work is done
    return batch
