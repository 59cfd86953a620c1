"""What ``torch.load`` may build without running code of the file."""

from __future__ import annotations

import argparse
import pathlib
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from mmengine.config import ConfigDict
from mmengine.logging import HistoryBuffer

# What people keep beside weights: types that hold values, and do nothing when they are built.
_VALUES = (
    argparse.Namespace,
    pathlib.PurePosixPath,
    pathlib.PureWindowsPath,
    # Of other systems and Python versions; a path in a file need not be one of this machine.
    (pathlib.PurePosixPath, 'pathlib.PosixPath'),
    (pathlib.PureWindowsPath, 'pathlib.WindowsPath'),
    (pathlib.PurePosixPath, 'pathlib._local.PosixPath'),
    (pathlib.PureWindowsPath, 'pathlib._local.WindowsPath'),
)


def _statistic(owner: type, name: str) -> Callable:
    """Stand-in for the ``getattr`` by which a pickle names the methods of ``HistoryBuffer``.

    The real one would hand a crafted file any attribute of any allowed class.
    """
    if owner is not HistoryBuffer or name not in ('min', 'max', 'current', 'mean'):
        raise pickle.UnpicklingError(f'a checkpoint may not look up {name!r} of {owner!r}')
    return getattr(owner, name)


def allow_mmengine_checkpoints() -> None:
    """Allow-list the classes that mmengine pickles into a training checkpoint, and no others.

    Since torch 2.6 ``torch.load`` refuses classes that it does not know. mmengine 0.10.7 saves
    its logged values as :class:`HistoryBuffer`, which holds numpy arrays, and what a config says
    of a data set as :class:`ConfigDict`; without this no run can be resumed.
    ``weights_only=False``, which would run any code in the file, is not needed.
    """
    if not hasattr(torch.serialization, 'add_safe_globals'):  # torch < 2.4 opens them as it is
        return
    core = np._core if hasattr(np, '_core') else np.core  # numpy 1 and 2
    torch.serialization.add_safe_globals(
        [
            HistoryBuffer,
            ConfigDict,
            (_statistic, 'builtins.getattr'),
            (_statistic, '__builtin__.getattr'),
            np.ndarray,
            np.dtype,
            core.multiarray._reconstruct,
            core.multiarray.scalar,
            # numpy 1 pickles its functions under the older module name.
            (core.multiarray._reconstruct, 'numpy.core.multiarray._reconstruct'),
            (core.multiarray.scalar, 'numpy.core.multiarray.scalar'),
            *(type(np.dtype(kind)) for kind in ('f8', 'f4', 'i8', 'i4', 'u1', '?')),
        ]
    )


@contextmanager
def harmless_types() -> Iterator[None]:
    """Inside the block, allow those of mmengine's checkpoints and plain holders of values."""
    allow_mmengine_checkpoints()  # the forks' own loading takes its part of them away again
    if not hasattr(torch.serialization, 'safe_globals'):  # torch < 2.5
        yield
        return
    with torch.serialization.safe_globals(list(_VALUES)):
        yield
