import pickle

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer

from kd_plugin.safe_globals import allow_mmengine_checkpoints


@pytest.fixture(autouse=True)
def allowed():
    # Under the forks mmengine's own loading takes its classes from the list again when it is done.
    allow_mmengine_checkpoints()


def test_a_history_opens_with_weights_only(tmp_path):
    buffer = HistoryBuffer([1.0, 2.0], [1, 1])
    torch.save(dict(a=buffer, b=np.float64(3)), tmp_path / 'a.pth')
    loaded = torch.load(tmp_path / 'a.pth', weights_only=True)
    assert loaded['a'].mean() == 1.5 and loaded['b'] == 3


class Crafted:
    def __reduce__(self):
        return getattr, (HistoryBuffer, '__init__')


def test_a_crafted_lookup_is_refused(tmp_path):
    torch.save(Crafted(), tmp_path / 'b.pth')
    with pytest.raises(pickle.UnpicklingError, match='may not look up'):
        torch.load(tmp_path / 'b.pth', weights_only=True)
