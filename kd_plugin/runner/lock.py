"""One training at a time in a work folder."""

from __future__ import annotations

import errno
import os
import os.path as osp
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mmengine.dist import broadcast_object_list, get_world_size, is_main_process
from mmengine.logging import print_log

try:
    import fcntl
except ImportError:  # Windows: nothing is locked
    fcntl = None  # type: ignore[assignment]

FILE = 'training.lock'


class WorkFolderInUse(RuntimeError):
    """Another training is at work in the work folder."""


@contextmanager
def locked(work_dir: str) -> Iterator[None]:
    """Inside the block no other process trains into this folder.

    The lock belongs to the main process and is gone when that ends, however it ends; data-loader
    workers do not inherit it. What only reads the folder (testing, exporting) asks for no lock.

    Args:
        work_dir: A folder that is there.

    Raises:
        WorkFolderInUse: Another process has the lock; in all processes of this run.
    """
    handle, holder = _take(work_dir) if is_main_process() else (None, None)
    if get_world_size() > 1:
        said: list[Any] = [holder]
        broadcast_object_list(said)
        holder = said[0]
    try:
        if holder is not None:
            raise WorkFolderInUse(
                f'{work_dir}: another training is at work there ({holder}); wait for it, stop it, '
                'or write another work_dir (--work-dir)')
        yield
    finally:
        if handle is not None:
            os.close(handle)


def _take(work_dir: str) -> tuple[int | None, str | None]:
    """An open locked file, or who has it locked; neither where locks are unknown."""
    if fcntl is None:
        return None, None
    handle = os.open(osp.join(work_dir, FILE), os.O_RDWR | os.O_CREAT, 0o666)
    try:
        # Not flock: forked data-loader workers would keep that one after their parent's death.
        fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        holder = os.read(handle, 1000).decode(errors='replace')
        os.close(handle)
        if error.errno in (errno.EACCES, errno.EAGAIN):
            return None, holder or 'a process that has just started'
        print_log(f'{work_dir} cannot be locked ({error}): see to it that no two trainings write '
                  'into it', logger='current')  # fmt: skip
        return None, None
    os.ftruncate(handle, 0)
    os.write(handle, f'process {os.getpid()} on {socket.gethostname()}'.encode())
    return handle, None
