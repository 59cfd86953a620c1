"""The safetensors format: a JSON header and the bytes of tensors, nothing that could run."""

from __future__ import annotations

import json
import math
import os
import struct
from typing import Any, BinaryIO

import torch
from torch import Tensor

# The format's own bound.
_LONGEST_HEADER = 100_000_000
_TYPES = {
    'F64': 'float64', 'F32': 'float32', 'F16': 'float16', 'BF16': 'bfloat16',
    'F8_E4M3': 'float8_e4m3fn', 'F8_E5M2': 'float8_e5m2',
    'I64': 'int64', 'I32': 'int32', 'I16': 'int16', 'I8': 'int8', 'U8': 'uint8', 'BOOL': 'bool',
}  # fmt: skip


def is_safetensors(file: BinaryIO) -> bool:
    """Whether a file starts as one; its position becomes the start."""
    file.seek(0)
    start = file.read(9)
    file.seek(0)
    return len(start) == 9 and start[8:] == b'{' and _header_length(start) <= _LONGEST_HEADER


def read_safetensors(file: BinaryIO) -> dict[str, Tensor]:
    """All tensors of a file, by name.

    Raises:
        ValueError: It is damaged, or of a type that torch does not have here.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    length = _header_length(file.read(8))
    start = 8 + length
    if start > size:
        raise ValueError(f'its header has {length} bytes, the file {size}')
    try:
        header = json.loads(file.read(length))
        header.pop('__metadata__', None)
        wanted = sum(max(0, entry['data_offsets'][1] - entry['data_offsets'][0])
                     for entry in header.values())  # fmt: skip
        if wanted > size - start:  # of one stretch of bytes many tensors could be made
            raise ValueError(f'its tensors take {wanted} bytes, the file has {size - start}')
        return {name: _read(file, name, entry, start, size) for name, entry in header.items()}
    except (AttributeError, IndexError, KeyError, RecursionError, TypeError, UnicodeDecodeError,
            json.JSONDecodeError) as error:  # fmt: skip
        raise ValueError(f'its header is none of safetensors: {error!r}') from error


def _read(file: BinaryIO, name: str, entry: dict[str, Any], start: int, size: int) -> Tensor:
    begin, end = entry['data_offsets']
    shape = entry['shape']
    dtype = getattr(torch, _TYPES.get(entry['dtype'], ''), None)
    if dtype is None:
        raise ValueError(f'{name} is of the type {entry["dtype"]}, which cannot be read here')
    wanted = math.prod(shape) * dtype.itemsize
    if min(shape, default=0) < 0 or begin < 0 or end - begin != wanted:
        raise ValueError(f'{name} of shape {shape} has {end - begin} bytes for {wanted}')
    if start + end > size:
        raise ValueError(f'{name} ends at byte {start + end}, the file at {size}')
    if not wanted:
        return torch.empty(shape, dtype=dtype)
    file.seek(start + begin)
    return torch.frombuffer(bytearray(file.read(wanted)), dtype=dtype).reshape(shape)


def _header_length(start: bytes) -> int:
    return struct.unpack('<Q', start[:8])[0]
