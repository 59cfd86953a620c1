"""What the converters share: an answer to wrong folders, output that is whole, and a summary."""

from __future__ import annotations

import os
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import mmcv
import numpy as np
from rich.progress import track

IMAGE_SUFFIXES = '.png', '.jpg', '.jpeg'
T = TypeVar('T')


class Summary:
    """What of a split was written, and what was left out and why."""

    def __init__(self) -> None:
        self.dropped: dict[str, list[str]] = defaultdict(list)

    def drop(self, reason: str, name: str) -> None:
        """Note that something of the file ``name`` is left out."""
        self.dropped[reason].append(name)

    def show(self, split: str, written: str) -> None:
        """Print a line for the split and one for each reason."""
        print(f'{split}: {written}')
        for reason, names in self.dropped.items():
            shown = ', '.join(names[:5]) + (', …' if len(names) > 5 else '')
            print(f'  left out: {len(names)} × {reason} ({shown})')


def progress(title: str, items: Sequence[T]) -> Iterator[T]:
    """The items, while a terminal shows how many are done; elsewhere one line says how many."""
    terminal = sys.stdout.isatty()
    if not terminal:
        print(f'{title}: {len(items)} files', flush=True)
    yield from track(items, title, disable=not terminal)


def require(root: Path, layout: str, folders: Iterable[str], hint: str = '') -> None:
    """Leave with what was looked for, and a hint, if ``root`` lacks one of the folders."""
    missing = [name for name in folders if not (root / name).is_dir()]
    if missing:
        there = sorted(path.name for path in root.iterdir()) if root.is_dir() else None
        found = 'there is no such folder' if there is None else f'there are {there[:8]}'
        raise SystemExit(f'{root} is not laid out as {layout}: no folder {", ".join(missing)}; '
                         f'{found}{hint if there else ""}')


def images_by_stem(folder: Path) -> dict[str, Path]:
    """The PNG and JPEG files of a folder by name without suffix, in order."""
    return {path.stem: path for path in sorted(folder.iterdir())
            if path.suffix.lower() in IMAGE_SUFFIXES}  # fmt: skip


def decode(path: Path, flag: str = 'color') -> np.ndarray | None:
    """An image [H, W, 3] as training will decode it, None where it cannot.

    Other readers open more: a JPEG that lacks its last bytes, say.

    Args:
        path: Its file.
        flag: As in :func:`mmcv.imfrombytes`; with ``'unchanged'`` a label map is [H, W].
    """
    try:
        return mmcv.imfrombytes(path.read_bytes(), flag=flag)
    except Exception:  # OpenCV's own, and whatever else a damaged file brings about
        return None


def say_undecodable(names: Sequence[str], total: int) -> None:
    """Name all files that :func:`decode` cannot read; they would end training hours later."""
    if names:
        print(f'{len(names)} of {total} images cannot be decoded and were left out: '
              f'{", ".join(names)}')


@contextmanager
def replacing(target: Path, parts: tuple[str, ...]) -> Iterator[Path]:
    """A folder to write to, which becomes ``target`` at the end of the block.

    Until then ``target`` is what it was, also when the process is killed; a kill may leave a
    hidden ``.NAME.*.tmp`` beside it, safe to delete.

    Args:
        target: Absent, or an earlier output, which is replaced.
        parts: The names that an output holds. A folder that holds others is not replaced.

    Raises:
        SystemExit: ``target`` holds something else.
    """
    target = target.resolve()  # renaming onto a symbolic link would fail
    others = sorted(set(os.listdir(target)) - set(parts)) if target.exists() else []
    if others:
        raise SystemExit(f'{target} holds {", ".join(others[:5])}, so it is no earlier output: '
                         'choose another folder')  # fmt: skip
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(
            prefix=f'.{target.name}.', suffix='.tmp', dir=target.parent) as scratch:  # fmt: skip
        work = Path(scratch, 'new')
        work.mkdir()
        yield work
        if target.exists():
            target.rename(Path(scratch, 'old'))
        work.rename(target)
