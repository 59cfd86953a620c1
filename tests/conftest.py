import sys
from pathlib import Path

import pytest
import torch
from mmengine.registry import DefaultScope

import kd_plugin  # noqa: F401

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(autouse=True)
def _same_ground(monkeypatch):
    """One thread (sums over several may differ in the last bit), one seed, no scope left over."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    DefaultScope._instance_dict.clear()
    monkeypatch.chdir(Path(__file__).parents[1])


@pytest.fixture(scope='session')
def digits(tmp_path_factory):
    from pairs import SETTINGS

    from kd_plugin.data import ensure

    return ensure(tmp_path_factory.mktemp('data') / 'digits', SETTINGS)
