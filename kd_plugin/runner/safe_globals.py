"""Let mmengine open its own training checkpoints under torch >= 2.6."""

from __future__ import annotations

import pickle
from collections.abc import Callable

import numpy as np
import torch
from mmengine.logging import HistoryBuffer


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
    its logged values as :class:`HistoryBuffer`, which holds numpy arrays; without this no run can
    be resumed. ``weights_only=False``, which would run any code in the file, is not needed.
    """
    if not hasattr(torch.serialization, 'add_safe_globals'):  # torch < 2.4 opens them as it is
        return
    core = np._core if hasattr(np, '_core') else np.core  # numpy 1 and 2
    torch.serialization.add_safe_globals(
        [
            HistoryBuffer,
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
