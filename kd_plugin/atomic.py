"""Files that are whole or not there: written beside their place, then moved into it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from glob import escape, glob


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[str]:
    """Write a file beside its place; when the block ends, it takes its place in one step.

    Whoever opens ``path`` meanwhile, or after the process died or the disk was full, finds what
    was there before. The bytes are on the disk before the name is, so a power cut leaves no file
    cut short.

    Args:
        path: The file, in a folder that is there.

    Yields:
        The path to write to, in the same folder; it is gone after an exception.

    Example:
        >>> import tempfile, pathlib
        >>> file = pathlib.Path(tempfile.mkdtemp(), 'a.txt')
        >>> with atomic_write(file) as partial:
        ...     _ = pathlib.Path(partial).write_text('whole')
        >>> file.read_text()
        'whole'
    """
    path = os.fspath(path)
    partial = f'{path}.{os.getpid()}.tmp'
    try:
        yield partial
        if os.path.exists(partial):
            _sync(partial)
            os.replace(partial, path)
            _sync(os.path.dirname(path) or '.')
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(partial)  # a full disk has use for its bytes
        raise


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write a short file as :func:`atomic_write` does, in UTF-8."""
    with atomic_write(path) as partial, open(partial, 'w', encoding='utf-8') as file:
        file.write(text)


def remove_partial(folder: str | os.PathLike[str]) -> None:
    """Remove the checkpoints that processes began to write there and did not live to finish."""
    for partial in glob(os.path.join(escape(os.fspath(folder)), '*.pth.*.tmp')):
        owner = partial.split('.')[-2]
        if owner.isdecimal() and not _lives(int(owner)):
            with suppress(FileNotFoundError):
                os.unlink(partial)


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # of somebody else
        return True
    return True


def _sync(path: str) -> None:
    """Have the disk write what belongs to a file, or a folder's list of names."""
    if os.path.isdir(path) and os.name == 'nt':
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        with suppress(OSError):  # file systems without it
            os.fsync(handle)
    finally:
        os.close(handle)
