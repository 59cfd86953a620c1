"""Opening a file of weights: nothing in it is run, and one that is none is answered in words."""

from __future__ import annotations

import os
import pickle
import re
import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO
from unittest.mock import patch

import torch
from mmengine.runner.checkpoint import CheckpointLoader

from kd_plugin.safe_globals import harmless_types

from .safetensors import is_safetensors, read_safetensors

# How torch.save starts where it writes no archive.
_OLD_FORMAT = b'\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.'
_FETCH = 'fetch or copy it again'


def open_checkpoint(path: str | os.PathLike) -> Any:
    """What a checkpoint holds, its tensors on the CPU.

    Files of ``torch.save`` and of safetensors are read, by what is in them and not by their
    names. Only tensors and plain values are built, under every mmengine and whatever
    ``TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD`` says.

    Args:
        path: A path, or an address as mmengine's checkpoint loader takes it (``https://…``,
            ``open-mmlab://…``), which then fetches and keeps the file.

    Raises:
        ValueError: No such file, or it is none of these; with its name and what to do.
    """
    if '://' in str(path):
        return _open_remote(str(path))
    path = os.path.expanduser(path)
    if os.path.isdir(path):
        inside = sorted(name for name in os.listdir(path) if name.endswith(('.pth', '.pt')))
        raise ValueError(f'{path} is a folder; write one of the files in it: {inside[:5]}')
    if not os.path.isfile(path):
        raise ValueError(
            f"{path} does not exist (looked from {os.getcwd()}); write the weights' path or "
            'address, or None for random ones'
        )
    with open(path, 'rb') as file:
        return _read(file, str(path))


def _open_remote(address: str) -> Any:
    try:
        with _opened_by_us(address):
            return CheckpointLoader.load_checkpoint(address, map_location='cpu')
    except ValueError as error:
        raise ValueError(f'{address}: {error}') from error
    except Exception as error:  # whatever a network, a store or its client raises
        raise ValueError(
            f'{address} cannot be fetched ({type(error).__name__}: {_line(error)}); check the '
            'address, or fetch it by hand and write the path'
        ) from error


@contextmanager
def _opened_by_us(address: str) -> Iterator[None]:
    """What mmengine has fetched, it opens by ``torch.load``, and the forks run what is refused."""

    def load(file: Any, *args: Any, **kwargs: Any) -> Any:
        if hasattr(file, 'read'):
            return _read(file, address)
        with open(file, 'rb') as opened:
            try:
                return _read(opened, str(file))
            except ValueError as error:
                hint = 'delete that copy before it is fetched again'
                raise ValueError(f'{error} ({hint})') from error

    with patch.object(torch, 'load', load):
        yield


def _read(file: BinaryIO, name: str) -> Any:
    """Raises ValueError in words."""
    _refuse_others(file, name)
    try:
        if is_safetensors(file):
            return read_safetensors(file)
        with harmless_types():
            # Not torch.load, which may be ours.
            return torch.serialization.load(file, map_location='cpu', weights_only=True)
    except Exception as error:  # torch raises what its parts raise, RuntimeError to EOFError
        raise ValueError(_explain(file, name, error)) from error


def _refuse_others(file: BinaryIO, name: str) -> None:
    """Refuse what is known by its first bytes.

    Raises:
        ValueError: It is one of these.
    """
    file.seek(0)
    start = file.read(512)
    size = file.seek(0, os.SEEK_END)
    what = None
    if not size:
        what = f'is empty (0 bytes); {_FETCH}'
    elif start.lstrip()[:1] == b'<':
        what = (f'is a web page ({start[:40]!r}…), not weights: the address answered with a page; '
                'fetch the file that the page links to')  # fmt: skip
    elif start.startswith(b'version https://git-lfs'):
        what = "is Git LFS's pointer to a file; run `git lfs pull` where it lies"
    elif start.startswith(b'PK\x03\x04') and not zipfile.is_zipfile(file):
        what = f'is cut short at {size} bytes; {_FETCH}'
    elif start.startswith(b'PK\x03\x04'):
        what = _misfit_of_archive(file, size)
    elif start[:3] == b'\x1f\x8b\x08' or _is_tar(file):
        what = 'is an archive, not a checkpoint; unpack it'
    file.seek(0)
    if what:
        raise ValueError(f'{name} {what}')


def _misfit_of_archive(file: BinaryIO, size: int) -> str | None:
    """Why a zip archive is no checkpoint; None where it may be one."""
    file.seek(0)
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
    names = [os.path.basename(entry.filename) for entry in entries]
    if 'constants.pkl' in names:
        return 'is a TorchScript program; write the checkpoint that it was made from'
    if 'data.pkl' not in names:
        return f'is an archive of {names[:3]}, not a checkpoint; unpack it'
    unpacked = sum(entry.file_size for entry in entries)
    if unpacked > size or any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        return (f'has {size} bytes and unpacks to {unpacked}: torch.save packs nothing, so this '
                'was not written by it; save it by torch.save again')  # fmt: skip
    outside = [entry.filename for entry in entries
               if entry.filename.startswith('/') or '..' in re.split(r'[/\\]', entry.filename)]
    if outside:
        return f'has an entry {outside[0]!r}, outside of itself; save it by torch.save again'
    return None


def _is_tar(file: BinaryIO) -> bool:
    """Whether a file is a tar archive, of whatever age: the oldest torch wrote such."""
    file.seek(0)
    try:
        with tarfile.open(fileobj=file, mode='r:'):
            return True
    except (tarfile.TarError, EOFError, OSError, ValueError):
        return False


def _explain(file: BinaryIO, name: str, error: Exception) -> str:
    """The sentence for a file that could not be read."""
    file.seek(0)
    start = file.read(len(_OLD_FORMAT))
    rewrite = (f'if you trust its origin, `python tools/export_student.py {name} OUT.pth --trust` '
               'runs it once and writes its weights alone')  # fmt: skip
    kind = re.search(r'(?:Unsupported global: GLOBAL|Unsupported class|GLOBAL) ([\w.]+)',
                     str(error))  # fmt: skip
    tensors = start[8:9] == b'{'  # of safetensors, whose length may start like a pickle
    if start[:1] == b'\x80' and start != _OLD_FORMAT and not tensors:
        return f'{name} is a pickle that torch.save did not write, and is not run; {rewrite}'
    if kind or (isinstance(error, pickle.UnpicklingError) and start[:1] in (b'\x80', b'P')):
        found = f'a pickled {kind[1]}' if kind else 'pickled calls'
        return f'{name} holds more than weights, {found}, and is not run; {rewrite}'
    if start[:1] in (b'\x80', b'P') or tensors:
        return f'{name} is damaged or cut short ({_line(error)}); {_FETCH}'
    return (f'{name} is no checkpoint: it starts with {start!r}; write a file of torch.save or '
            'safetensors')  # fmt: skip


def _line(error: Exception) -> str:
    """The first line of what an error says."""
    return (str(error).splitlines() or [''])[0][:200]
