"""safetensors files written as a stream: hashed on the way, flushed to disk, without a second copy of the tensors."""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from torch import Tensor

DTYPES = {  # names of the format for what a state dict may hold
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


def parts(tensors: dict[str, Tensor]) -> Iterator[bytes | memoryview]:
    """Bytes of the file in order: length of the header, header, then the memory of each tensor itself.

    Args:
        tensors: contiguous, on the CPU.
    """
    ordered = sorted(tensors.items(), key=lambda item: (-item[1].element_size(), item[0]))  # keeps each one aligned
    header = _header(ordered)
    yield len(header).to_bytes(8, "little")
    yield header
    for _, tensor in ordered:
        yield tensor.detach().view(-1).view(torch.uint8).numpy().data


def _header(ordered: list[tuple[str, Tensor]]) -> bytes:
    entries, end = {}, 0
    for name, tensor in ordered:
        begin, end = end, end + tensor.nbytes
        entries[name] = {"dtype": DTYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [begin, end]}
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    return text + b" " * (-len(text) % 8)


def size(tensors: dict[str, Tensor]) -> int:
    """Bytes of the file; the tensors may be on any device."""
    return 8 + len(_header(list(tensors.items()))) + sum(tensor.nbytes for tensor in tensors.values())


def write_durably(path: Path, data: Iterable[bytes | memoryview]) -> str:
    """Write a new file, flush it to disk, and return the SHA-256 of what was handed over."""
    digest = hashlib.sha256()
    with open(path, "xb") as file:
        for part in data:
            digest.update(part)
            file.write(part)
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest()
